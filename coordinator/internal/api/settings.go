package api

import "github.com/wispcloud/wisp/coordinator/internal/settings"

// Settings that the framework honours.
var (
	DefaultPageSize = settings.Define(settings.Def{
		Name: "default.page.size", Category: "Advanced", Type: settings.Integer, Default: "500", Min: 1, Max: 10000,
		Doc: "Rows a list answers when no page is asked for, and the most a page may have.",
	})
	// SessionTimeout is what login answers as timeout.
	SessionTimeout = settings.Define(settings.Def{
		Name: "session.timeout", Category: "Advanced", Type: settings.Seconds, Default: "1800", Min: 60, Max: 604800,
		Doc: "Seconds without a request after which a login ends.",
	})
	// JobTimeout bounds jobs whose command sets no deadline.
	JobTimeout = settings.Define(settings.Def{
		Name: "job.cancel.threshold.minutes", Category: "Advanced", Type: settings.Integer, Default: "60", Min: 1, Max: 10080,
		Doc: "Minutes after which an asynchronous job that has not ended fails.",
	})
)

// Settings lists them.
func Settings() []*settings.Def {
	return []*settings.Def{
		DefaultPageSize, SessionTimeout, JobTimeout, throttlingEnabled, throttlingInterval, throttlingMax, throttlingCache, IntegrationPort,
	}
}
