// Package identity holds who may do what and how much of it: domains, accounts, users, their passwords and keys, and
// the counts and limits of what accounts own.
//
// Its functions work on a transaction and are called by API commands, by other areas (Count) and by the first start
// (Bootstrap). Counts are kept in the transaction that creates or removes what they count, so that two calls at the
// same moment cannot both pass a limit that has room for one.
package identity
