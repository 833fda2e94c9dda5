// A server of the classic design, to be measured beside ours: one goroutine and one channel of 100 per subscriber, every
// event encoded for every stream, a snapshot built for each. An update that meets a full channel is dropped and counted.
//
// Standard library only: net/http speaks HTTP/2, gRPC and protobuf are written by hand. grpc-go gathers the writes of a
// connection's streams, which net/http does not; so a stream flushes only when its channel is empty.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	channelCapacity = 100
	// Further than this, a saturating publisher waits. With a burst it stays below the capacity.
	behind   = 64
	burst    = 32
	changing = 16
	pause    = 100 * time.Microsecond
	look     = 10 * time.Millisecond
	patience = 2 * time.Second
	settle   = 100 * time.Millisecond
)

func main() {
	folder := flag.String("folder", "", "folder of the run")
	secure := flag.Bool("tls", false, "with TLS")
	unix := flag.Bool("unix", false, "over a Unix socket")
	flag.Parse()
	core, err := load(filepath.Join(*folder, "settings.json"))
	if err != nil {
		log.Fatal(err)
	}
	network, address := "tcp", "127.0.0.1:0"
	if *unix {
		network, address = "unix", filepath.Join(*folder, "socket")
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: core, Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000}}
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	var writes atomic.Uint64
	go func() {
		counted := countedListener{listener, &writes}
		if !*secure {
			log.Fatal(server.Serve(counted))
		}
		pem := filepath.Join(*folder, "ipc_cert.pem")
		server.TLSConfig = &tls.Config{}
		log.Fatal(server.ServeTLS(counted, pem, pem))
	}()
	say(map[string]any{"Listening": listener.Addr().String()})
	// The publisher sleeps in the kernel: the runtime's own timers may be late by a millisecond.
	runtime.LockOSThread()
	sharpTimers()
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		obey(core, &writes, commands.Bytes())
	}
	core.mutex.Lock()
	defer core.mutex.Unlock()
	if core.dropped > 0 {
		log.Printf("the server in Go dropped %d updates at full channels", core.dropped)
	}
}

// What the load generator can ask for; see control.rs.
type command struct {
	Paced *struct {
		Updates    uint64 `json:"updates"`
		IntervalNs uint64 `json:"interval_ns"`
	}
	Saturated *struct {
		DurationNs uint64 `json:"duration_ns"`
	}
}

func obey(core *core, writes *atomic.Uint64, line []byte) {
	if string(line) == `"Memory"` {
		say(map[string]any{"Memory": map[string]any{"resident_bytes": residentBytes()}})
		return
	}
	var asked command
	if err := json.Unmarshal(line, &asked); err != nil {
		log.Fatalf("%s: %v", line, err)
	}
	started := now()
	work := func(func(uint64)) uint64 { return 0 }
	switch {
	case asked.Paced != nil:
		started += asked.Paced.IntervalNs
		work = func(publish func(uint64)) (pauses uint64) {
			for nth := range asked.Paced.Updates {
				due := started + nth*asked.Paced.IntervalNs
				pauses += sleepUntil(due)
				publish(due)
			}
			return pauses
		}
	case asked.Saturated != nil:
		work = func(publish func(uint64)) (pauses uint64) {
			for now() < started+asked.Saturated.DurationNs {
				if core.slowestLag() > behind {
					pauses += sleepUntil(now() + uint64(pause))
					continue
				}
				for range burst {
					publish(now())
				}
			}
			return pauses
		}
	default:
		log.Fatalf("%s: not a command", line)
	}
	say(map[string]any{"Published": measured(core, writes, started, work)})
}

// What publishing took, and by itself the processor time of the pauses, which work returns.
func measured(core *core, writes *atomic.Uint64, started uint64, work func(func(uint64)) uint64) map[string]any {
	times := map[uint64]uint64{}
	cpu, written, updates := cpuTime(), writes.Load(), uint64(0)
	pauses := work(func(due uint64) {
		begun := now()
		core.publish(updates, due)
		times[now()-begun]++
		updates++
	})
	for end := now() + uint64(patience); core.slowestLag() > 0 && now() < end; {
		pauses += sleepUntil(now() + uint64(look))
	}
	pauses += sleepUntil(now() + uint64(settle))
	counts := make([][2]uint64, 0, len(times))
	for value, count := range times {
		counts = append(counts, [2]uint64{value, count})
	}
	return map[string]any{
		"updates": updates, "started_ns": started, "cpu_ns": cpuTime() - cpu - pauses, "pauses_ns": pauses,
		"writes": writes.Load() - written, "publish_ns": counts,
	}
}

func say(answer any) {
	line, err := json.Marshal(answer)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

// Without the pages of the program itself.
func residentBytes() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "RssAnon:"); found {
			kib, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kib * 1024
		}
	}
	log.Fatal("/proc/self/status without RssAnon")
	return 0
}

// The settings, and who gets their updates.
type core struct {
	mutex       sync.Mutex
	sequence    int32
	settings    []setting
	index       map[string]int
	subscribers map[chan update]struct{}
	// At full channels.
	dropped uint64
}

func load(path string) (*core, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	core := &core{index: map[string]int{}, subscribers: map[chan update]struct{}{}}
	if err := json.Unmarshal(text, &core.settings); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for at, setting := range core.settings {
		core.index[setting.Key] = at
	}
	return core, nil
}

func updateKey(nth uint64) string {
	return fmt.Sprintf("integration.section_%02d.instances.collection.settings.parameter_with_a_rather_long_name", nth%changing)
}

func (core *core) publish(nth, due uint64) {
	changed := setting{Source: "file", Key: updateKey(nth), Value: float64(due)}
	core.mutex.Lock()
	defer core.mutex.Unlock()
	core.sequence++
	core.settings[core.index[changed.Key]] = changed
	next := update{core.sequence, changed}
	for subscriber := range core.subscribers {
		select {
		case subscriber <- next:
		default:
			core.dropped++
		}
	}
}

func (core *core) slowestLag() int {
	core.mutex.Lock()
	defer core.mutex.Unlock()
	slowest := 0
	for subscriber := range core.subscribers {
		// A full channel: it has stopped reading. A publisher that waits for the others never fills theirs.
		if lag := len(subscriber); lag < channelCapacity {
			slowest = max(slowest, lag)
		}
	}
	return slowest
}

func (core *core) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	// The connection counts what is left of a body against its window.
	if _, err := io.Copy(io.Discard, request.Body); err != nil {
		return
	}
	response.Header().Set("Content-Type", "application/grpc")
	response.Header().Set("Trailer", "Grpc-Status")
	switch _, method, _ := strings.Cut(request.URL.Path[1:], "/"); method {
	case "RegisterRemoteAgent":
		response.Write(framed(text(nil, 1, "none")))
		response.Header().Set("Grpc-Status", "0")
	case "StreamConfigEvents":
		core.stream(response, request)
	default:
		const unimplemented = "12"
		response.Header().Set("Grpc-Status", unimplemented)
	}
}

func (core *core) stream(response http.ResponseWriter, request *http.Request) {
	updates := make(chan update, channelCapacity)
	core.mutex.Lock()
	snapshot := encodeSnapshot(core.sequence, core.settings)
	core.subscribers[updates] = struct{}{}
	core.mutex.Unlock()
	defer func() {
		core.mutex.Lock()
		delete(core.subscribers, updates)
		core.mutex.Unlock()
	}()
	flusher := response.(http.Flusher)
	if _, err := response.Write(framed(snapshot)); err != nil {
		return
	}
	for {
		if len(updates) == 0 {
			flusher.Flush()
		}
		select {
		case next := <-updates:
			if _, err := response.Write(framed(next.encode())); err != nil {
				return
			}
		case <-request.Context().Done():
			return
		}
	}
}
