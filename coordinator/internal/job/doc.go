// Package job runs asynchronous API calls.
//
// A job is a row (cloud.Job), written in the same commit as the first effects of the call that started it. Its step is
// a function over a transaction that reads rows, changes what can be changed now, and says what comes next: finished,
// failed, or wait until something changes. Whoever is leader runs the steps of all pending jobs: after every commit
// those of the jobs whose rows were touched, and in a slow pass all of them. Nothing about a job lives in memory alone
// but the rows it waits for, and the pass makes that list again; so a coordinator that dies loses nothing, and the next
// leader steps the same row.
//
// The contract of a step: it may run at any time, any number of times, also when nothing has changed, and again after a
// crash between any two commits. It decides by the rows it reads, never by how often it ran.
package job
