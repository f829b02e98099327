// SPDX-License-Identifier: Apache-2.0

// What a ZooKeeper client expects, asked through the Go client (Debian's
// golang-github-samuel-go-zookeeper-dev).
//
//	battery all HOSTS     every test; a line each: "ok NAME" or "FAILED NAME: why"
//	battery move HOSTS    holds a session; on a line from stdin it must still be the same
//	                      session, on another server
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/samuel/go-zookeeper/zk"
)

const limit = 20 * time.Second

var (
	hosts  []string
	number int
	open   = zk.WorldACL(zk.PermAll)
)

type silent struct{}

func (silent) Printf(string, ...interface{}) {}

// A failed test ends by a panic with one of these.
type failure struct{ why string }

func check(holds bool, format string, words ...interface{}) {
	if !holds {
		_, file, line, _ := runtime.Caller(1)
		if strings.HasSuffix(file, "battery.go") {
			format += fmt.Sprintf(" (line %d)", line)
		}
		panic(failure{fmt.Sprintf(format, words...)})
	}
}

func done(err error) {
	if err != nil {
		_, _, line, _ := runtime.Caller(1)
		panic(failure{fmt.Sprintf("line %d: %v", line, err)})
	}
}

func refuses(expected, err error) {
	if !errors.Is(err, expected) {
		_, _, line, _ := runtime.Caller(1)
		panic(failure{fmt.Sprintf("line %d: %v, expected %v", line, err, expected)})
	}
}

func event(from <-chan zk.Event, kind zk.EventType, at string) {
	select {
	case e := <-from:
		check(e.Type == kind && e.Path == at, "event %v %v, expected %v %v", e.Type, e.Path,
			kind, at)
	case <-time.After(limit):
		check(false, "waited %v for %v %v", limit, kind, at)
	}
}

func session() (*zk.Conn, <-chan zk.Event) {
	c, events, err := zk.Connect(hosts, 6*time.Second, zk.WithLogger(silent{}))
	done(err)
	await(events, zk.StateHasSession)
	return c, events
}

func await(events <-chan zk.Event, state zk.State) {
	end := time.After(limit)
	for {
		select {
		case e := <-events:
			if e.State == state {
				return
			}
		case <-end:
			check(false, "waited %v for %v", limit, state)
		}
	}
}

// What others wrote through other servers is seen after a sync, and only then surely.
func catchUp(c *zk.Conn) {
	_, err := c.Sync("/")
	done(err)
}

// ---- the tests: each has a session and an empty place ----

func znodes(c *zk.Conn, at string) {
	x := at + "/x"
	name, err := c.Create(x, []byte("one"), 0, open)
	done(err)
	check(name == x, "made %v", name)
	_, err = c.Create(x, nil, 0, open)
	refuses(zk.ErrNodeExists, err)
	_, err = c.Create(at+"/no/such", nil, 0, open)
	refuses(zk.ErrNoNode, err)
	data, stat, err := c.Get(x)
	done(err)
	check(string(data) == "one" && stat.Version == 0 && stat.Czxid == stat.Mzxid, "%s %v", data,
		stat)
	_, err = c.Set(x, []byte("two"), 5)
	refuses(zk.ErrBadVersion, err)
	stat, err = c.Set(x, []byte("two"), 0)
	done(err)
	check(stat.Version == 1 && stat.Mzxid > stat.Czxid, "%v", stat)
	_, err = c.Create(x+"/y", nil, 0, open)
	done(err)
	refuses(zk.ErrNotEmpty, c.Delete(x, -1))
	names, stat, err := c.Children(x)
	done(err)
	check(len(names) == 1 && names[0] == "y" && stat.NumChildren == 1, "%v %v", names, stat)
	done(c.Delete(x+"/y", 0))
	done(c.Delete(x, 1))
	is, _, err := c.Exists(x)
	done(err)
	check(!is, "it is still there")
	_, _, err = c.Get(x)
	refuses(zk.ErrNoNode, err)
}

func sequencesAndEphemerals(c *zk.Conn, at string) {
	for i := 0; i < 3; i++ {
		name, err := c.Create(at+"/n-", nil, zk.FlagSequence, open)
		done(err)
		check(name == fmt.Sprintf("%s/n-%010d", at, i), "%v", name)
	}
	other, _ := session()
	catchUp(other)
	_, err := other.Create(at+"/e", nil, zk.FlagEphemeral, open)
	done(err)
	name, err := other.CreateProtectedEphemeralSequential(at+"/p-", nil, open)
	done(err)
	check(strings.HasSuffix(name, "-p-0000000004"), "%v", name)
	catchUp(c)
	is, stat, gone, err := c.ExistsW(at + "/e")
	done(err)
	check(is && stat.EphemeralOwner == other.SessionID(), "%v", stat)
	_, err = c.Create(at+"/e/x", nil, 0, open)
	refuses(zk.ErrNoChildrenForEphemerals, err)
	other.Close()
	event(gone, zk.EventNodeDeleted, at+"/e")
	names, _, err := c.Children(at)
	done(err)
	check(len(names) == 3, "%v", names)
}

func watches(c *zk.Conn, at string) {
	x := at + "/x"
	_, _, created, err := c.ExistsW(x)
	done(err)
	_, _, child, err := c.ChildrenW(at)
	done(err)
	_, err = c.Create(x, nil, 0, open)
	done(err)
	event(created, zk.EventNodeCreated, x)
	event(child, zk.EventNodeChildrenChanged, at)
	_, _, changed, err := c.GetW(x)
	done(err)
	_, err = c.Set(x, []byte("1"), -1)
	done(err)
	event(changed, zk.EventNodeDataChanged, x)
	_, _, deleted, err := c.GetW(x)
	done(err)
	done(c.Delete(x, -1))
	event(deleted, zk.EventNodeDeleted, x)
}

func transactions(c *zk.Conn, at string) {
	x := at + "/x"
	results, err := c.Multi(&zk.CreateRequest{Path: x, Data: []byte("1"), Acl: open},
		&zk.SetDataRequest{Path: x, Data: []byte("2"), Version: 0},
		&zk.CheckVersionRequest{Path: x, Version: 1},
		&zk.CreateRequest{Path: at + "/n-", Acl: open, Flags: zk.FlagSequence},
		&zk.DeleteRequest{Path: at + "/n-0000000001", Version: -1})
	done(err)
	check(results[0].String == x && results[1].Stat.Version == 1 &&
		results[3].String == at+"/n-0000000001", "%v", results)
	results, err = c.Multi(&zk.DeleteRequest{Path: x, Version: -1},
		&zk.DeleteRequest{Path: at + "/nothing", Version: -1})
	refuses(zk.ErrNoNode, err)
	refuses(zk.ErrNoNode, results[1].Error)
	is, _, err := c.Exists(x)
	done(err)
	check(is, "a failed transaction deleted it")
}

func accessLists(c *zk.Conn, at string) {
	x := at + "/x"
	_, err := c.Create(x, nil, 0, zk.AuthACL(zk.PermAll))
	refuses(zk.ErrInvalidACL, err)
	done(c.AddAuth("digest", []byte("me:secret")))
	_, err = c.Create(x, []byte("1"), 0, zk.AuthACL(zk.PermAll))
	done(err)
	acl, stat, err := c.GetACL(x)
	done(err)
	check(len(acl) == 1 && acl[0] == zk.DigestACL(zk.PermAll, "me", "secret")[0] &&
		stat.Aversion == 0, "%v", acl)
	other, _ := session()
	defer other.Close()
	catchUp(other)
	_, _, err = other.Get(x)
	refuses(zk.ErrNoAuth, err)
	_, err = other.SetACL(x, open, -1)
	refuses(zk.ErrNoAuth, err)
	done(other.AddAuth("digest", []byte("me:secret")))
	_, err = other.SetACL(x, open, 3)
	refuses(zk.ErrBadVersion, err)
	stat, err = other.SetACL(x, zk.WorldACL(zk.PermRead), 0)
	done(err)
	check(stat.Aversion == 1, "%v", stat)
	catchUp(c)
	_, err = c.Set(x, nil, -1)
	refuses(zk.ErrNoAuth, err)
}

func locks(c *zk.Conn, at string) {
	var (
		mutex       sync.Mutex
		wait        sync.WaitGroup
		wrong       error
		now, total  int
		most        int
		countInside = func(by int) {
			mutex.Lock()
			defer mutex.Unlock()
			now += by
			if by > 0 {
				total++
			}
			if now > most {
				most = now
			}
		}
	)
	for i := 0; i < 3; i++ {
		mine, _ := session()
		defer mine.Close()
		wait.Add(1)
		go func() {
			defer wait.Done()
			for k := 0; k < 5; k++ {
				l := zk.NewLock(mine, at+"/lock", open)
				err := l.Lock()
				if err == nil {
					countInside(1)
					countInside(-1)
					err = l.Unlock()
				}
				if err != nil {
					mutex.Lock()
					wrong = err
					mutex.Unlock()
					return
				}
			}
		}()
	}
	wait.Wait()
	done(wrong)
	check(most == 1 && total == 15, "%d at once, %d of 15 turns", most, total)
}

func inFlight(c *zk.Conn, at string) {
	var wait sync.WaitGroup
	names := make([]string, 200)
	for i := range names {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			names[i], _ = c.Create(at+"/n-", nil, zk.FlagSequence, open)
		}(i)
	}
	wait.Wait()
	sort.Strings(names)
	for i, name := range names {
		check(path.Base(name) == fmt.Sprintf("n-%010d", i), "%d is %v", i, name)
	}
}

func words(c *zk.Conn, at string) {
	for i, ok := range zk.FLWRuok(hosts, 5*time.Second) {
		check(ok, "%v is not ok", hosts[i])
	}
	// FLWSrvr wants the date of 3.5 and fails at every later ZooKeeper.
	// FLWCons is never content, as the line of its own connection has no session.
	clients, _ := zk.FLWCons([]string{c.Server()}, 5*time.Second)
	done(clients[0].Error)
	for _, one := range clients[0].Clients {
		if one.SessionID == c.SessionID() {
			return
		}
	}
	check(false, "cons does not know the session 0x%x", c.SessionID())
}

var tests = []struct {
	name string
	run  func(c *zk.Conn, at string)
}{
	{"znodes", znodes},
	{"sequences and ephemerals", sequencesAndEphemerals},
	{"watches", watches},
	{"transactions", transactions},
	{"access lists", accessLists},
	{"locks", locks},
	{"many in flight", inFlight},
	{"four-letter words", words},
}

func guarded(test func()) (why string) {
	defer func() {
		if r := recover(); r != nil {
			if f, is := r.(failure); is {
				why = f.why
			} else {
				why = fmt.Sprint(r)
			}
		}
	}()
	test()
	return ""
}

func place(c *zk.Conn) string {
	_, err := c.Create("/battery-go", nil, 0, open)
	if !errors.Is(err, zk.ErrNodeExists) {
		done(err)
	}
	number++
	name, err := c.Create(fmt.Sprintf("/battery-go/%d-%d", os.Getpid(), number), nil, 0, open)
	done(err)
	return name
}

func runAll() int {
	failed := 0
	for _, t := range tests {
		why := guarded(func() {
			c, _ := session()
			defer c.Close()
			t.run(c, place(c))
		})
		if why == "" {
			fmt.Println("ok", t.name)
		} else {
			fmt.Printf("FAILED %s: %s\n", t.name, why)
			failed = 1
		}
	}
	return failed
}

func move() {
	c, events := session()
	at := place(c)
	_, err := c.Create(at+"/e", nil, zk.FlagEphemeral, open)
	done(err)
	_, _, changed, err := c.GetW(at)
	done(err)
	id, first := c.SessionID(), c.Server()
	fmt.Println("on", strings.Split(first, ":")[0])
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	done(err)
	await(events, zk.StateDisconnected)
	await(events, zk.StateHasSession)
	check(c.SessionID() == id, "another session")
	is, stat, err := c.Exists(at + "/e")
	done(err)
	check(is && stat.EphemeralOwner == id, "its ephemeral znode is gone")
	_, err = c.Set(at, []byte("1"), -1)
	done(err)
	event(changed, zk.EventNodeDataChanged, at)
	check(c.Server() != first, "still on %v", first)
	fmt.Println("moved to", strings.Split(c.Server(), ":")[0])
	c.Close()
}

func main() {
	hosts = strings.Split(os.Args[2], ",")
	if os.Args[1] == "all" {
		os.Exit(runAll())
	}
	if why := guarded(move); why != "" {
		fmt.Println("FAILED", why)
		os.Exit(1)
	}
}
