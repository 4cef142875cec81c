package offering

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Rates are the bounds of a disk in an answer, spelled as clients read them.
type Rates struct {
	CacheMode            string `json:"cacheMode,omitempty" doc:"cache of its disks on the host: none, writeback or writethrough"`
	BytesRead            uint64 `json:"diskBytesReadRate,omitempty" doc:"most bytes read in a second"`
	BytesReadMax         uint64 `json:"diskBytesReadRateMax,omitempty" doc:"most bytes read in a second of a burst"`
	BytesReadMaxSeconds  uint64 `json:"diskBytesReadRateMaxLength,omitempty" doc:"longest such burst, in seconds"`
	BytesWrite           uint64 `json:"diskBytesWriteRate,omitempty" doc:"most bytes written in a second"`
	BytesWriteMax        uint64 `json:"diskBytesWriteRateMax,omitempty" doc:"most bytes written in a second of a burst"`
	BytesWriteMaxSeconds uint64 `json:"diskBytesWriteRateMaxLength,omitempty" doc:"longest such burst, in seconds"`
	IOPSRead             uint64 `json:"diskIopsReadRate,omitempty" doc:"most reads in a second"`
	IOPSReadMax          uint64 `json:"diskIopsReadRateMax,omitempty" doc:"most reads in a second of a burst"`
	IOPSReadMaxSeconds   uint64 `json:"diskIopsReadRateMaxLength,omitempty" doc:"longest such burst, in seconds"`
	IOPSWrite            uint64 `json:"diskIopsWriteRate,omitempty" doc:"most writes in a second"`
	IOPSWriteMax         uint64 `json:"diskIopsWriteRateMax,omitempty" doc:"most writes in a second of a burst"`
	IOPSWriteMaxSeconds  uint64 `json:"diskIopsWriteRateMaxLength,omitempty" doc:"longest such burst, in seconds"`
}

func viewRates(r cloud.DiskRates, cache string) Rates {
	return Rates{
		CacheMode: cache,
		BytesRead: r.BytesRead, BytesReadMax: r.BytesReadMax, BytesReadMaxSeconds: r.BytesReadMaxSeconds,
		BytesWrite: r.BytesWrite, BytesWriteMax: r.BytesWriteMax, BytesWriteMaxSeconds: r.BytesWriteMaxSeconds,
		IOPSRead: r.IOPSRead, IOPSReadMax: r.IOPSReadMax, IOPSReadMaxSeconds: r.IOPSReadMaxSeconds,
		IOPSWrite: r.IOPSWrite, IOPSWriteMax: r.IOPSWriteMax, IOPSWriteMaxSeconds: r.IOPSWriteMaxSeconds,
	}
}

// rateParams are the bounds of a disk in a call; embed it.
type rateParams struct {
	CacheMode            string  `api:"cachemode" enum:"none,writeback,writethrough" since:"4.4" doc:"cache of its disks on the host: none, writeback or writethrough; the host's choice when absent"`
	BytesRead            *uint64 `type:"long" api:"bytesreadrate" since:"4.2" doc:"most bytes read in a second"`
	BytesReadMax         *uint64 `type:"long" api:"bytesreadratemax" since:"4.9" doc:"most bytes read in a second of a burst"`
	BytesReadMaxSeconds  *uint64 `type:"long" api:"bytesreadratemaxlength" since:"4.9" doc:"longest such burst, in seconds"`
	BytesWrite           *uint64 `type:"long" api:"byteswriterate" since:"4.2" doc:"most bytes written in a second"`
	BytesWriteMax        *uint64 `type:"long" api:"byteswriteratemax" since:"4.9" doc:"most bytes written in a second of a burst"`
	BytesWriteMaxSeconds *uint64 `type:"long" api:"byteswriteratemaxlength" since:"4.9" doc:"longest such burst, in seconds"`
	IOPSRead             *uint64 `type:"long" api:"iopsreadrate" since:"4.2" doc:"most reads in a second"`
	IOPSReadMax          *uint64 `type:"long" api:"iopsreadratemax" since:"4.9" doc:"most reads in a second of a burst"`
	IOPSReadMaxSeconds   *uint64 `type:"long" api:"iopsreadratemaxlength" since:"4.9" doc:"longest such burst, in seconds"`
	IOPSWrite            *uint64 `type:"long" api:"iopswriterate" since:"4.2" doc:"most writes in a second"`
	IOPSWriteMax         *uint64 `type:"long" api:"iopswriteratemax" since:"4.9" doc:"most writes in a second of a burst"`
	IOPSWriteMaxSeconds  *uint64 `type:"long" api:"iopswriteratemaxlength" since:"4.9" doc:"longest such burst, in seconds"`
}

// apply changes what the call gives, and checks the outcome.
func (p *rateParams) apply(r *cloud.DiskRates, cache *string) error {
	for _, x := range []struct {
		to   *uint64
		from *uint64
	}{
		{&r.BytesRead, p.BytesRead},
		{&r.BytesReadMax, p.BytesReadMax},
		{&r.BytesReadMaxSeconds, p.BytesReadMaxSeconds},
		{&r.BytesWrite, p.BytesWrite},
		{&r.BytesWriteMax, p.BytesWriteMax},
		{&r.BytesWriteMaxSeconds, p.BytesWriteMaxSeconds},
		{&r.IOPSRead, p.IOPSRead},
		{&r.IOPSReadMax, p.IOPSReadMax},
		{&r.IOPSReadMaxSeconds, p.IOPSReadMaxSeconds},
		{&r.IOPSWrite, p.IOPSWrite},
		{&r.IOPSWriteMax, p.IOPSWriteMax},
		{&r.IOPSWriteMaxSeconds, p.IOPSWriteMaxSeconds},
	} {
		if x.from != nil {
			*x.to = *x.from
		}
	}
	if p.CacheMode != "" {
		*cache = p.CacheMode
	}
	for _, x := range []struct {
		name               string
		rate, most, length uint64
	}{
		{"bytesreadrate", r.BytesRead, r.BytesReadMax, r.BytesReadMaxSeconds},
		{"byteswriterate", r.BytesWrite, r.BytesWriteMax, r.BytesWriteMaxSeconds},
		{"iopsreadrate", r.IOPSRead, r.IOPSReadMax, r.IOPSReadMaxSeconds},
		{"iopswriterate", r.IOPSWrite, r.IOPSWriteMax, r.IOPSWriteMaxSeconds},
	} {
		switch {
		case x.most > 0 && x.most < x.rate, x.most > 0 && x.rate == 0:
			return cloud.Errorf(cloud.Invalid, "Invalid %smax %d: a burst must be above %s, which is %d", x.name, x.most, x.name, x.rate)
		case x.length > 0 && x.most == 0:
			return cloud.Errorf(cloud.Invalid, "Invalid %smaxlength %d: there is no %smax", x.name, x.length, x.name)
		}
	}
	return nil
}
