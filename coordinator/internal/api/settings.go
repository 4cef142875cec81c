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
	// LoginAttempts is when wrong passwords begin to cost time. CloudStack disables the user then, which lets strangers lock
	// anybody out.
	LoginAttempts = settings.Define(settings.Def{
		Name: "incorrect.login.attempts.allowed", Category: "Advanced", Type: settings.Integer, Default: "5", Min: 1, Max: 100,
		Doc: "Wrong passwords in a row after which each further try of the user, or from the address, has to wait, longer each time.",
	})
	sortAscending = settings.Define(settings.Def{
		Name: "sortkey.algorithm", Category: "Advanced", Type: settings.Boolean, Default: "false",
		Doc: "Whether what has the lowest sort key comes first in lists; else what has the highest.",
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
		DefaultPageSize, SessionTimeout, LoginAttempts, sortAscending, JobTimeout, throttlingEnabled, throttlingInterval, throttlingMax, throttlingCache, IntegrationPort,
	}
}
