package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/leadrelay/leadrelay/jobs"
)

// A Run is one gather and push, as it is shown.
type Run struct {
	ID          string     `json:"id" format:"uuid"`
	Kind        string     `json:"kind" enum:"scheduled,manual"`
	Schedule    string     `json:"schedule" doc:"Whose fire it is; empty for a manual run." example:"@hourly"`
	FireAt      *time.Time `json:"fire_at"`
	StartedAt   time.Time  `json:"started_at"`
	EndedAt     *time.Time `json:"ended_at" doc:"null while something of it is under way."`
	Gathered    int        `json:"gathered" doc:"Records taken on without any attempt before."`
	Carried     int        `json:"carried" doc:"Records taken on from earlier rounds."`
	Delivered   int        `json:"delivered"`
	TestAnswers int        `json:"test_answers"`
	Failed      int        `json:"failed" doc:"Records whose round was spent in it; they stay pending."`
	Pending     int        `json:"pending" doc:"Records of it that are still owed."`
	Dead        int        `json:"dead"`
}

func viewOfRun(r *jobs.Run) Run {
	return Run{
		ID: r.ID, Kind: string(r.Kind), Schedule: r.Schedule, FireAt: known(r.FireAt), StartedAt: r.StartedAt.UTC(), EndedAt: known(r.EndedAt),
		Gathered: r.Gathered, Carried: r.Carried, Delivered: r.Delivered, TestAnswers: r.TestAnswers, Failed: r.Failed,
		Pending: r.Pending(), Dead: r.Dead,
	}
}

func (a *API) runs() {
	tags := []string{"runs"}
	register(a, huma.Operation{
		OperationID: "list-runs", Method: http.MethodGet, Path: runsPath, Tags: tags,
		Summary: "List runs", Description: "The newest first. Not for a chatbot's token: a run's counts are of all chatbots.",
	}, a.listRuns)
	register(a, huma.Operation{
		OperationID: "get-run", Method: http.MethodGet, Path: runsPath + "/{id}", Tags: tags,
		Summary: "Show a run", Errors: []int{http.StatusNotFound},
	}, a.getRun)
	register(a, huma.Operation{
		OperationID: "start-run", Method: http.MethodPost, Path: runsPath, Tags: tags, DefaultStatus: http.StatusAccepted,
		Summary:     "Start a run by hand",
		Description: "The daemon gathers, then pushes all that is pending for these webhooks. The answer does not wait for it.",
		Errors:      []int{http.StatusRequestEntityTooLarge},
	}, a.startRun)
}

// notScoped refuses what would tell a chatbot's caller of others.
func notScoped(ctx context.Context) error {
	if callerOf(ctx).Chatbot != "" {
		return huma.Error403Forbidden("runs are counted for all chatbots together: a chatbot's token does not see them; list its deliveries")
	}
	return nil
}

func (a *API) listRuns(ctx context.Context, in *Paging) (*answer[List[Run]], error) {
	if err := notScoped(ctx); err != nil {
		return nil, err
	}
	page, next, err := a.desk(ctx).Runs(ctx, in.Limit, in.After)
	if err != nil {
		return nil, err
	}
	list := List[Run]{Items: []Run{}, Next: next}
	for i := range page {
		list.Items = append(list.Items, viewOfRun(&page[i]))
	}
	return &answer[List[Run]]{list}, nil
}

func (a *API) getRun(ctx context.Context, in *struct {
	ID string `path:"id" format:"uuid"`
},
) (*answer[Run], error) {
	if err := notScoped(ctx); err != nil {
		return nil, err
	}
	r, err := a.desk(ctx).Run(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &answer[Run]{viewOfRun(&r)}, nil
}

// RunScope says whose records a run takes on; what is left out does not matter.
type RunScope struct {
	Webhooks []string `json:"webhooks,omitempty" minItems:"1" maxItems:"1000" doc:"Only these webhooks' records."`
	Chatbots []string `json:"chatbots,omitempty" minItems:"1" maxItems:"1000" doc:"Only these chatbots' records. A chatbot's token: its own, which may be left out."`
	Types    []string `json:"types,omitempty" minItems:"1" maxItems:"1000" doc:"Only records of these types."`
}

func (a *API) startRun(ctx context.Context, in *struct{ Body *RunScope }) (*struct {
	Location string `header:"Location"`
	Body     Run
}, error,
) {
	var scope jobs.Scope
	if in.Body != nil {
		scope = jobs.Scope(*in.Body)
	}
	run, err := a.desk(ctx).StartRun(ctx, scope)
	if errors.Is(err, jobs.ErrNotFound) {
		return nil, unfit("body", Mistake{"webhooks", err.Error()})
	}
	if err != nil {
		return nil, err
	}
	a.Log.Info("run started by hand", "run", run.ID, "by", callerOf(ctx).Name)
	return &struct {
		Location string `header:"Location"`
		Body     Run
	}{runsPath + "/" + run.ID, viewOfRun(&run)}, nil
}
