// Relays TCP connections as a slow link would: every answer is late, and all connections share one rate.
//
// Arguments: TARGET LATENCY RATE. LATENCY is what a request waits for the first byte of its answer, such as "20ms"; so
// does a new connection, for its handshake. RATE is in bytes a second for each direction; 0 is no limit. The first line
// of output is the address that it listens at.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

const read = 64 << 10

// A run of bytes and when it arrives.
type run struct {
	data []byte
	due  time.Time
}

// A direction of the link, whose rate all connections share.
type direction struct {
	lock sync.Mutex
	rate float64
	free time.Time
}

// after returns when the link has carried another size bytes.
func (d *direction) after(size int) time.Time {
	now := time.Now()
	if d.rate == 0 {
		return now
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.free.Before(now) {
		d.free = now
	}
	d.free = d.free.Add(time.Duration(float64(size) / d.rate * 1e9))
	return d.free
}

func main() {
	target := os.Args[1]
	latency, err := time.ParseDuration(os.Args[2])
	if err != nil {
		panic(err)
	}
	rate, err := strconv.ParseFloat(os.Args[3], 64)
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	go func() { // the end of the input ends the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	up, down := &direction{rate: rate}, &direction{rate: rate}
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				return
			}
			go carry(client, server, up, 0, time.Now().Add(latency))
			carry(server, client, down, latency, time.Time{})
		}()
	}
}

// carry passes bytes on, each not before its time. Half a second of the link, or 4 MiB, may be under way.
func carry(from, to net.Conn, d *direction, latency time.Duration, opened time.Time) {
	runs := make(chan run, (4<<20)/read)
	go func() {
		for one := range runs {
			time.Sleep(time.Until(one.due))
			if _, err := to.Write(one.data); err != nil {
				break
			}
		}
		to.Close()
		from.Close()
		for range runs { // until the reader has seen it
		}
	}()
	for {
		data := make([]byte, read)
		size, err := from.Read(data)
		if size > 0 {
			due := d.after(size).Add(latency)
			if due.Before(opened) {
				due = opened
			}
			runs <- run{data[:size], due}
		}
		if err != nil {
			close(runs)
			return
		}
	}
}
