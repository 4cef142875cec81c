package job

import "github.com/wispcloud/wisp/coordinator/internal/settings"

// The settings of what is kept.
var (
	keepJobs = settings.Define(settings.Def{
		Name: "job.expire.minutes", Category: "Advanced", Type: settings.Integer, Default: "1440", Min: 60, Max: 5256000,
		Doc: "Minutes for which an ended asynchronous job can be asked about.",
	})
	keepEvents = settings.Define(settings.Def{
		Name: "event.purge.delay", Category: "Advanced", Type: settings.Integer, Default: "15", Min: 0, Max: 36500,
		Doc: "Days after which events are removed; 0 keeps them for ever.",
	})
	purgeEvents = settings.Define(settings.Def{
		Name: "event.purge.interval", Category: "Advanced", Type: settings.Seconds, Default: "86400", Min: 10, Max: 31536000,
		Doc: "How often, in seconds, old events are looked for.",
	})
)

// Settings lists them.
func Settings() []*settings.Def { return []*settings.Def{keepJobs, keepEvents, purgeEvents} }
