package main

import (
	"log"
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Since the machine started, as the readers count.
func now() uint64 {
	const monotonic = 1
	return clock(monotonic)
}

// Processor time of all threads of this process.
func cpuTime() uint64 {
	const process = 2
	return clock(process)
}

// Processor time of the calling thread.
func threadTime() uint64 {
	const thread = 3
	return clock(thread)
}

func clock(which uintptr) uint64 {
	var time syscall.Timespec
	if _, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, which, uintptr(unsafe.Pointer(&time)), 0); failed != 0 {
		log.Fatal(failed)
	}
	return uint64(time.Nano())
}

// Puts the calling thread to sleep. Returns the processor time that this took.
func sleepUntil(due uint64) uint64 {
	present := now()
	if due <= present {
		return 0
	}
	before := threadTime()
	rest := syscall.NsecToTimespec(int64(due - present))
	syscall.Nanosleep(&rest, nil)
	return threadTime() - before
}

// By default the kernel lets a thread oversleep by 50 us.
func sharpTimers() {
	const setTimerSlack = 29
	syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
}

// Counts the writes that reach its sockets, below TLS.
type countedListener struct {
	net.Listener
	writes *atomic.Uint64
}

func (listener countedListener) Accept() (net.Conn, error) {
	conn, err := listener.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{conn, listener.writes}, nil
}

type countedConn struct {
	net.Conn
	writes *atomic.Uint64
}

func (conn countedConn) Write(bytes []byte) (int, error) {
	conn.writes.Add(1)
	return conn.Conn.Write(bytes)
}
