// Package simtest runs a whole cloud in one test: coordinators with their real state, API and jobs, and many real
// agents over simulated hardware (agent/agenttest), talking over real mutual TLS on loopback.
//
// Coordinators run in the test's own process, where the race detector sees them, or as processes of their own, where
// they can be killed at any moment.
package simtest
