// SPDX-License-Identifier: Apache-2.0

// A load of one kind for etcd, through its own Go client (Debian's golang-etcd-server-dev);
// words and output are those of load.c.
//
//	etcd_load HOST:PORT[,HOST:PORT...] set|get|create [KEY=VALUE...]
//
//	KEY: sessions, window, seconds, warm, size, name, pids, disk
//
// A session is a client with a connection of its own to one of the servers, a request in flight
// a goroutine. set overwrites a goroutine's own key; get reads it from the connected server
// alone, as ZooKeeper does (serializable); create puts a new key each time. Every answer is
// checked: a put's revisions rise, a get has version and value of its own last put.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/clientv3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/grpclog"
)

const (
	partsBits = 7 // as in histogram.h
	parts     = 1 << partsBits
	buckets   = (64 - partsBits + 1) * parts
	limit     = 30 * time.Second // of one request
	ticks     = 100              // of the kernel, a second
	stamp     = 8                // bytes of the put's number at the beginning of a value
)

func die(format string, words ...interface{}) {
	fmt.Fprintf(os.Stderr, "etcd_load: "+format+"\n", words...)
	os.Exit(1)
}

// ---- latencies ----

type histogram struct {
	count, most uint64
	seen        uint64 // requests, measured or not
	counts      [buckets]uint64
}

func (h *histogram) add(v uint64) {
	shift := 0
	if v >= 2*parts {
		shift = bits.Len64(v) - 1 - partsBits
	}
	h.counts[shift*parts+int(v>>uint(shift))]++
	h.count++
	if v > h.most {
		h.most = v
	}
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.count += other.count
	h.seen += other.seen
	if other.most > h.most {
		h.most = other.most
	}
}

// In microseconds.
func (h *histogram) permille(n uint64) float64 {
	wanted, seen := (h.count*n+999)/1000, uint64(0)
	for i, c := range h.counts {
		seen += c
		if seen >= wanted && h.count > 0 {
			shift := 0
			if i >= 2*parts {
				shift = i/parts - 1
			}
			v := uint64(i-shift*parts)<<uint(shift) + (1<<uint(shift)-1)/2
			if v > h.most {
				v = h.most
			}
			return float64(v) / 1e3
		}
	}
	return 0
}

// ---- what the servers cost ----

type cost struct {
	load, servers float64
	switches      uint64
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		die("%v; does the server (pids=) still run, and as the same user?", err)
	}
	return string(text)
}

func lineOf(text, key string) uint64 {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, key) {
			v, _ := strconv.ParseUint(strings.TrimSpace(line[len(key):]), 10, 64)
			return v
		}
	}
	return 0
}

func costNow(pids []string) (c cost) {
	var own syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &own)
	c.load = float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9
	for _, pid := range pids {
		stat := read("/proc/" + pid + "/stat")
		fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		c.servers += float64(user+system) / ticks
		tasks, _ := filepath.Glob("/proc/" + pid + "/task/*/status")
		for _, t := range tasks {
			text, _ := os.ReadFile(t) // a thread may end meanwhile
			c.switches += lineOf(string(text), "voluntary_ctxt_switches:")
		}
	}
	return c
}

// As meter.c has it: bytes written to the device of the directory, after what waits for it in
// memory; -1 if there is none.
func diskWritten(dir string) int64 {
	var s unix.Stat_t
	if dir == "" {
		return -1
	}
	d, err := os.Open(dir)
	if err == nil {
		err = unix.Fstat(int(d.Fd()), &s)
	}
	if err == nil {
		err = unix.Syncfs(int(d.Fd()))
	}
	if err != nil {
		die("%s: %v", dir, err)
	}
	d.Close()
	device := fmt.Sprintf("%d:%d", unix.Major(s.Dev), unix.Minor(s.Dev))
	text, err := os.ReadFile("/sys/dev/block/" + device + "/stat")
	if err != nil {
		return -1
	}
	sectors, err := strconv.ParseInt(strings.Fields(string(text))[6], 10, 64)
	if err != nil {
		die("%s: %v", dir, err)
	}
	return sectors * 512
}

// ---- the load ----

type options struct {
	servers, pids          []string
	op, name, disk         string
	sessions, window, size int
	seconds, warm          float64
}

func number(word, value string) float64 {
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || v < 0 {
		die("%s: not a number", word)
	}
	return v
}

func readOptions() options {
	if len(os.Args) < 3 {
		die("usage: etcd_load HOST:PORT[,...] set|get|create [KEY=VALUE...]")
	}
	o := options{servers: strings.Split(os.Args[1], ","), op: os.Args[2], sessions: 1, window: 1,
		size: 100, seconds: 3, warm: 0.5, name: fmt.Sprintf("load-%d", os.Getpid())}
	if o.op != "set" && o.op != "get" && o.op != "create" {
		die("%s: no such OP", o.op)
	}
	for _, word := range os.Args[3:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "sessions":
			o.sessions = int(number(word, value))
		case "window":
			o.window = int(number(word, value))
		case "size":
			o.size = int(number(word, value))
		case "seconds":
			o.seconds = number(word, value)
		case "warm":
			o.warm = number(word, value)
		case "name":
			o.name = value
		case "disk":
			o.disk = value
		case "pids":
			o.pids = strings.Split(value, ",")
		default:
			die("%s: no such option", word)
		}
	}
	return o
}

const (
	warms = iota
	runs
	over
)

type load struct {
	options
	state int32
	ready sync.WaitGroup
	begin chan struct{}
}

func (l *load) value(n uint64) []byte {
	v := make([]byte, l.size)
	for i := range v {
		v[i] = byte(i*7 + i/251)
	}
	if l.size >= stamp {
		binary.BigEndian.PutUint64(v, n)
	}
	return v
}

// One goroutine: always one request in flight.
func (l *load) work(c *clientv3.Client, key string, h *histogram) {
	var revision int64
	var puts uint64
	put := func(k string) {
		puts++
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		r, err := c.Put(ctx, k, string(l.value(puts)))
		cancel()
		if err != nil {
			die("put %s: %v", k, err)
		}
		if r.Header.Revision <= revision {
			die("put %s: revision %d after %d", k, r.Header.Revision, revision)
		}
		revision = r.Header.Revision
	}
	get := func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		r, err := c.Get(ctx, key, clientv3.WithSerializable())
		cancel()
		if err != nil {
			die("get %s: %v", key, err)
		}
		if len(r.Kvs) != 1 || r.Kvs[0].Version != int64(puts) ||
			!bytes.Equal(r.Kvs[0].Value, l.value(puts)) {
			die("get %s: other data than was written: %v", key, r.Kvs)
		}
	}
	put(key)
	l.ready.Done()
	<-l.begin
	for i := 0; atomic.LoadInt32(&l.state) != over; i++ {
		at := time.Now()
		switch l.op {
		case "set":
			put(key)
		case "create":
			put(fmt.Sprintf("%s-%010d", key, i))
		case "get":
			get()
		}
		h.seen++
		if atomic.LoadInt32(&l.state) == runs {
			h.add(uint64(time.Since(at)))
		}
	}
}

func (l *load) client(i int) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{l.servers[i%len(l.servers)]},
		DialTimeout: limit})
	if err != nil {
		die("%s: %v", l.servers[i%len(l.servers)], err)
	}
	return c
}

func main() {
	clientv3.SetLogger(grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr))
	l := load{options: readOptions(), begin: make(chan struct{})}
	clients := make([]*clientv3.Client, l.sessions)
	latencies := make([]histogram, l.sessions*l.window)
	var all sync.WaitGroup
	l.ready.Add(len(latencies))
	all.Add(len(latencies))
	for i := range clients {
		clients[i] = l.client(i)
		for k := 0; k < l.window; k++ {
			go func(i, k int) {
				l.work(clients[i], fmt.Sprintf("/%s/s%d-%d", l.name, i, k), &latencies[i*l.window+k])
				all.Done()
			}(i, k)
		}
	}
	l.ready.Wait()
	disk := diskWritten(l.disk)
	close(l.begin)
	time.Sleep(time.Duration(l.warm * 1e9))
	before, at := costNow(l.pids), time.Now()
	atomic.StoreInt32(&l.state, runs)
	time.Sleep(time.Duration(l.seconds * 1e9))
	atomic.StoreInt32(&l.state, over)
	seconds, after := time.Since(at).Seconds(), costNow(l.pids)
	all.Wait()
	var sum histogram
	for i := range latencies {
		sum.merge(&latencies[i])
	}
	if disk >= 0 {
		disk = diskWritten(l.disk) - disk
	}
	if _, err := clients[0].Delete(context.Background(), "/"+l.name+"/", clientv3.WithPrefix()); err != nil {
		die("delete: %v", err)
	}
	fmt.Printf("{\"op\": %q, \"sessions\": %d, \"window\": %d, \"size\": %d, \"servers\": %d, "+
		"\"requests\": %d, \"seconds\": %.3f, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, "+
		"\"p999_us\": %.1f, \"most_us\": %.1f, \"load_cpu_s\": %.3f", l.op, l.sessions, l.window,
		l.size, len(l.servers), sum.count, seconds, float64(sum.count)/seconds, sum.permille(500),
		sum.permille(990), sum.permille(999), float64(sum.most)/1e3, after.load-before.load)
	if len(l.pids) > 0 {
		fmt.Printf(", \"servers_cpu_s\": %.2f, \"servers_switches\": %d",
			after.servers-before.servers, int64(after.switches-before.switches))
	}
	if disk >= 0 && sum.seen > 0 {
		fmt.Printf(", \"disk_bytes_each\": %.2f", float64(disk)/float64(sum.seen))
	}
	fmt.Println("}")
}
