package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leadrelay/leadrelay/cmd/leadrelay/config"
	"github.com/leadrelay/leadrelay/sources"
)

func newSQLCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sql",
		Short: "Print SQL for the source's DBA: least rights, a wake-up trigger, indexes",
		Long:  "Print SQL to give to whoever runs the source's database. It connects to nothing, and each may be run again.",
	}
	var role string
	grants := &cobra.Command{
		Use:   "grants",
		Short: "Rights to read what the streams need, and no others",
		Long: `Print SQL that makes the role where it is not there yet, and gives it rights to read what the streams need, and no
others. A superuser runs it; a new role has no password until it is given one:

  leadrelay sql grants | psql chatbots
  psql chatbots -c '\password leadrelay_reader'`,
		RunE: func(*cobra.Command, []string) error {
			return a.printSQL(func(engine string, c *config.Resolved, streams []sources.Config) string {
				text := sources.GrantsSQL(engine, streams, role)
				if c.Rows != nil && engine == "postgres" {
					text += "-- webhook_source reads a query: grant usage on the schemas and select on the tables that it names.\n"
				}
				return text
			})
		},
	}
	grants.Flags().StringVar(&role, "role", "leadrelay_reader", "the `ROLE` that leadrelay connects as")
	cmd.AddCommand(
		grants,
		&cobra.Command{
			Use:   "trigger",
			Short: "A trigger that wakes immediate mode",
			RunE:  func(*cobra.Command, []string) error { return a.printSQL(ofStreams(sources.TriggerSQL)) },
		},
		&cobra.Command{
			Use:   "indexes",
			Short: "The indexes that scans use",
			RunE:  func(*cobra.Command, []string) error { return a.printSQL(ofStreams(sources.IndexesSQL)) },
		},
	)
	return cmd
}

// sqlText makes SQL for a configuration and its streams.
type sqlText func(engine string, c *config.Resolved, streams []sources.Config) string

func ofStreams(text func(engine string, streams []sources.Config) string) sqlText {
	return func(engine string, _ *config.Resolved, streams []sources.Config) string { return text(engine, streams) }
}

func (a *app) printSQL(make sqlText) error {
	c, err := a.loadConfig("streams")
	if err != nil {
		return err
	}
	if strings.HasPrefix(c.Source.Reveal(), "${") { // what it stands for says which database it is
		if c, err = a.loadConfig("streams", "source"); err != nil {
			return err
		}
	}
	engine := "postgres"
	if strings.HasPrefix(c.Source.Reveal(), "sqlite:") {
		engine = "sqlite"
	}
	var streams []sources.Config
	for _, s := range c.Streams {
		streams = append(streams, streamConfig(s, c.Push))
	}
	text := make(engine, c, streams)
	if a.json {
		return a.printJSON(map[string]string{"sql": text})
	}
	_, err = fmt.Fprint(a.stdout, text)
	return err
}
