// Package systemvmtest boots system VMs from the image and shows that what runs in them is the same router as in a
// namespace of a host: the matrix of packets (netsvc/netsvctest/matrix), and what becomes of it when the channel is
// cut, the services are killed, the kernel panics, or the image is damaged. It has tests only.
//
// Machines run in a namespace of the test's own and have no way out of it.
package systemvmtest
