package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/jobs"
)

func newTokenCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make and remove the API's tokens, each for one chatbot"}
	var token jobs.Token
	var read bool
	add := &cobra.Command{
		Use:   "add --chatbot C [--read]",
		Short: "Make a token that sees and touches one chatbot's things only, and print it",
		Long: `Make a token of the API for one chatbot: hand it to that chatbot's owner. With it they see and change the webhooks of
exactly this chatbot, see what is owed to these, and start runs of it; with --read they change nothing, and see no secrets. It is
printed once, and the ledger keeps a hash of it: one that is lost is removed, and another made. The token in admin.token_file is
for all chatbots.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token.Write = !read
			return a.tokenAdd(cmd.Context(), token)
		},
	}
	f := add.Flags()
	f.StringVar(&token.Chatbot, "chatbot", "", "the chatbot it is for")
	f.BoolVar(&read, "read", false, "it may only read")
	f.StringVar(&token.Description, "description", "", "a note for people, such as who has it")
	_ = add.MarkFlagRequired("chatbot")
	cmd.AddCommand(add,
		&cobra.Command{
			Use:   "list",
			Short: "Print the tokens: ids, chatbots and rights, never their texts",
			RunE:  func(cmd *cobra.Command, _ []string) error { return a.tokenList(cmd.Context()) },
		},
		&cobra.Command{
			Use:   "remove ID",
			Short: "Forget a token: every daemon refuses it from then on",
			Args:  cobra.ExactArgs(1),
			RunE:  func(cmd *cobra.Command, args []string) error { return a.tokenRemove(cmd.Context(), args[0]) },
		})
	return cmd
}

func (a *app) tokenAdd(ctx context.Context, token jobs.Token) error {
	switch {
	case token.Chatbot == jobs.AllChatbots:
		return usageErrorf("--chatbot %q: a token is for one chatbot; the one in admin.token_file is for all", token.Chatbot)
	case strings.TrimSpace(token.Chatbot) == "":
		return usageErrorf("--chatbot is empty; write a chatbot's id")
	}
	return a.withLedger(ctx, func(p *parts) error {
		if p.config.Admin.TokenFile == "" {
			a.log.Warn("daemons of this configuration take no tokens: give admin.token_file first")
		}
		id, text := jobs.NewToken()
		token.ID = id
		if err := p.ledger.AddToken(ctx, token, jobs.HashToken(text)); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]string{"id": id, "token": text.Reveal()})
		}
		_, err := fmt.Fprintf(a.stdout, "id:     %s\ntoken:  %s\n", id, text.Reveal())
		return err
	}, "admin")
}

// tokenDetail is an item of `token list --json`.
type tokenDetail struct {
	ID          string    `json:"id"`
	Chatbot     string    `json:"chatbot"`
	Read        bool      `json:"read"` // and no more
	Description string    `json:"description"`
	CreatedAt   time.Time `json:"created_at"`
}

func (a *app) tokenList(ctx context.Context) error {
	return a.withLedger(ctx, func(p *parts) error {
		tokens, err := p.ledger.AllTokens(ctx)
		if err != nil {
			return err
		}
		items := []tokenDetail{}
		for _, t := range tokens {
			items = append(items, tokenDetail{t.ID, t.Chatbot, !t.Write, t.Description, t.CreatedAt.UTC()})
		}
		if a.json {
			return a.printJSON(map[string]any{"items": items, "next": ""})
		}
		t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "TOKEN\tCHATBOT\tMAY\tMADE\tDESCRIPTION")
		for _, token := range items {
			may := "read and write"
			if token.Read {
				may = "read"
			}
			printRow(t, token.ID, token.Chatbot, may, token.CreatedAt.Format(time.RFC3339), dash(token.Description))
		}
		return t.Flush()
	})
}

func (a *app) tokenRemove(ctx context.Context, id string) error {
	return a.withLedger(ctx, func(p *parts) error {
		err := p.ledger.RemoveToken(ctx, id)
		switch {
		case errors.Is(err, jobs.ErrNotFound):
			return usageErrorf("token %s: %w", id, jobs.ErrNotFound)
		case err != nil:
			return err
		case a.json:
			return a.printJSON(map[string]string{"id": id})
		}
		_, err = fmt.Fprintf(a.stdout, "token %s is removed\n", id)
		return err
	})
}
