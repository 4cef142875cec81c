package management

import (
	"fmt"
	"iter"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Figures is what a coordinator tells of its process and its machine. Coordinators of different versions send it to each
// other as JSON: fields are added only, and what is zero is not known.
type Figures struct {
	Version string     `json:"version"`
	Taken   time.Time  `json:"taken"`
	Started time.Time  `json:"started"`
	Booted  time.Time  `json:"booted"`
	Kernel  string     `json:"kernel"`
	OS      string     `json:"os"`
	Hosts   []cloud.ID `json:"hosts"` // whose agents are linked to it

	Processors int        `json:"processors"`
	Load       [3]float64 `json:"load"`       // of the machine, over 1, 5 and 15 minutes
	Cycles     [3]int64   `json:"cycles"`     // of the machine since its boot: user, system, idle, in hundredths of a second
	ProcessCPU float64    `json:"processcpu"` // seconds of CPU that the process has used
	Threads    int        `json:"threads"`
	HeapTotal  uint64     `json:"heaptotal"` // bytes
	HeapUsed   uint64     `json:"heapused"`
	Resident   uint64     `json:"resident"` // memory of the process
	Virtual    uint64     `json:"virtual"`
	Memory     uint64     `json:"memory"`     // of the machine
	MemoryFree uint64     `json:"memoryfree"` // what programs can have of it
}

// ServerAnswer is a coordinator as clients see it.
type ServerAnswer struct {
	ID           cloud.ID   `json:"id" doc:"the coordinator"`
	Name         string     `json:"name" doc:"its name"`
	State        string     `json:"state" doc:"Up, or Down where the leader does not hear it"`
	Version      string     `json:"version,omitempty" doc:"version of its program; this and what follows of its machine it tells itself, when it is up"`
	IPAddress    string     `json:"ipaddress" doc:"address at which the others reach it"`
	ServiceIP    string     `json:"serviceip" doc:"the same"`
	Leader       bool       `json:"leader" doc:"whether it leads: calls that came to others are carried out there"`
	Pending      int        `json:"pendingjobscount" doc:"jobs that are not done yet; all are the leader's"`
	Agents       []cloud.ID `json:"agents,omitempty" doc:"hosts whose agents are linked to it"`
	AgentsCount  int        `json:"agentscount" doc:"how many those are"`
	Started      api.Time   `json:"lastserverstart,omitempty" doc:"when its program was started"`
	Booted       api.Time   `json:"lastboottime,omitempty" doc:"when its machine was started"`
	Kernel       string     `json:"kernelversion,omitempty" doc:"version of its machine's kernel"`
	Distribution string     `json:"osdistribution,omitempty" doc:"its machine's operating system"`
}

// MetricsAnswer is a coordinator with what it and its machine use. One that does not answer has none of it.
type MetricsAnswer struct {
	ServerAnswer
	AgentCount int       `json:"agentcount" doc:"the same as agentscount"`
	Taken      api.Time  `json:"collectiontime,omitempty" doc:"when it was asked"`
	Processors int       `json:"availableprocessors,omitempty" doc:"processors of its machine"`
	CPULoad    string    `json:"cpuload,omitempty" doc:"how much of those its process has used since it was started"`
	Loads      []float64 `json:"systemloadaverages,omitempty" doc:"load of its machine over 1, 5 and 15 minutes"`
	Cycles     []int64   `json:"systemcycleusage,omitempty" doc:"what its machine's processors did since it was started: programs, kernel, nothing, in hundredths of a second"`
	HeapTotal  uint64    `json:"heapmemorytotal,omitempty" doc:"bytes that its process holds for its data"`
	HeapUsed   uint64    `json:"heapmemoryused,omitempty" doc:"bytes of those that are in use"`
	Memory     string    `json:"systemmemorytotal,omitempty" doc:"memory of its machine"`
	MemoryFree string    `json:"systemmemoryfree,omitempty" doc:"what programs can still have of that"`
	Resident   string    `json:"systemmemoryused,omitempty" doc:"memory of its process"`
	Virtual    string    `json:"systemmemoryvirtualsize,omitempty" doc:"address space of its process"`
	Threads    int       `json:"threadstotalcount,omitempty" doc:"threads of its process"`
}

type serverParams struct {
	api.ListParams
	ID      cloud.ID `api:"id" doc:"only this one"`
	Name    string   `api:"name" doc:"only the one of this name"`
	Version string   `api:"version" since:"4.20" doc:"only those of this version"`
}

func (d Deps) servers() api.Command {
	return api.Command{
		Name: "listManagementServers", Doc: "Lists the coordinators.", Since: "4.15", Roles: api.AdminOnly, Object: "managementserver",
		Run: api.List(lister(d, func(a *MetricsAnswer) ServerAnswer { return a.ServerAnswer })),
	}
}

func (d Deps) metrics() api.Command {
	return api.Command{
		Name: "listManagementServersMetrics", Doc: "Lists the coordinators, with what their processes and machines use.", Since: "4.17", Roles: api.AdminOnly,
		Object: "managementserver",
		Run:    api.List(lister(d, func(a *MetricsAnswer) MetricsAnswer { return *a })),
	}
}

// lister is the list of coordinators, however much is told of them.
func lister[R any](d Deps, view func(*MetricsAnswer) R) api.Lister[serverParams, MetricsAnswer, R] {
	return api.Lister[serverParams, MetricsAnswer, R]{
		Rows: func(c *api.Call, p *serverParams) (iter.Seq[*MetricsAnswer], error) {
			members, err := d.Members()
			if err != nil {
				return nil, err
			}
			members = slices.DeleteFunc(members, func(m replica.MemberInfo) bool {
				return !p.ID.IsZero() && p.ID != m.Row || p.Name != "" && p.Name != m.ID
			})
			slices.SortFunc(members, func(a, b replica.MemberInfo) int { return strings.Compare(a.ID, b.ID) })
			told := d.Figures(c.Context(), members)
			return func(yield func(*MetricsAnswer) bool) {
				for _, m := range members {
					a := server(c.Read, m, told[m.ID])
					if (p.Version == "" || p.Version == a.Version) && !yield(a) {
						return
					}
				}
			}, nil
		},
		Keyword: func(a *MetricsAnswer) string { return a.Name },
		View:    func(_ *api.Call, a *MetricsAnswer) R { return view(a) },
	}
}

// server shows a coordinator; f is nil where it told nothing.
func server(r store.Reader, m replica.MemberInfo, f *Figures) *MetricsAnswer {
	host, _, err := net.SplitHostPort(m.Address)
	if err != nil {
		host = m.Address
	}
	a := &MetricsAnswer{ServerAnswer: ServerAnswer{ID: m.Row, Name: m.ID, State: "Up", IPAddress: host, ServiceIP: host, Leader: m.Leader}}
	if m.Silent {
		a.State = "Down"
	}
	if m.Leader {
		a.Pending = tables.Jobs.Count(r, "pending", nil)
	}
	if f == nil {
		return a
	}
	a.Version, a.Agents, a.AgentsCount, a.AgentCount = f.Version, f.Hosts, len(f.Hosts), len(f.Hosts)
	a.Started, a.Booted, a.Kernel, a.Distribution = api.Time(f.Started), api.Time(f.Booted), f.Kernel, f.OS
	a.Taken, a.Processors, a.Threads = api.Time(f.Taken), f.Processors, f.Threads
	if f.Processors > 0 {
		a.Loads, a.Cycles = f.Load[:], f.Cycles[:]
	}
	a.HeapTotal, a.HeapUsed = f.HeapTotal, f.HeapUsed
	a.Memory, a.MemoryFree, a.Resident, a.Virtual = size(f.Memory), size(f.MemoryFree), size(f.Resident), size(f.Virtual)
	if age := f.Taken.Sub(f.Started).Seconds(); age > 0 && f.Processors > 0 {
		a.CPULoad = strconv.FormatFloat(100*f.ProcessCPU/age/float64(f.Processors), 'f', 2, 64) + "%"
	}
	return a
}

// size is a number of bytes for people; "" where it is not known.
func size(bytes uint64) string {
	switch {
	case bytes == 0:
		return ""
	case bytes < 1<<30:
		return fmt.Sprintf("%.2f MB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.2f GB", float64(bytes)/(1<<30))
}
