// SPDX-License-Identifier: Apache-2.0

// As tests/cr/calls.c, in Go: small stacks with something else below them, a runtime that catches every signal, sends them to its own threads
// all the time, and takes the ones of its own faults for a program's errors.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

var turns [6]uint64

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.WriteFile("/cr/result.0", []byte("FAIL: "+text), 0o666)
	os.Exit(1)
}

func compute(n int) {
	want := sha256.Sum256([]byte(strings.Repeat("x", 100000)))
	for {
		if sha256.Sum256([]byte(strings.Repeat("x", 100000))) != want {
			fail("a computation went wrong")
		}
		atomic.AddUint64(&turns[n], 1)
	}
}

func deep(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + deep(n-1)
}

func grow(n int) {
	for {
		done := make(chan int)
		go func() { done <- deep(2000) }()
		if <-done != 2000 {
			fail("a stack went wrong")
		}
		atomic.AddUint64(&turns[n], 1)
	}
}

func fault(n int) {
	for {
		func() {
			defer func() {
				if recover() == nil {
					fail("a fault that was none")
				}
			}()
			var p *int
			*p = 1
		}()
		atomic.AddUint64(&turns[n], 1)
	}
}

func tick(n int) {
	for {
		time.Sleep(time.Millisecond)
		atomic.AddUint64(&turns[n], 1)
	}
}

func exists(name string, n int) bool {
	_, err := os.Stat(fmt.Sprintf("/cr/%s.%d", name, n))
	return err == nil
}

func main() {
	runtime.GOMAXPROCS(4)
	go compute(0)
	go compute(1)
	go grow(2)
	go fault(3)
	go tick(4)
	go func() {
		for {
			runtime.GC()
			atomic.AddUint64(&turns[5], 1)
		}
	}()
	for n := 1; ; n++ {
		os.WriteFile(fmt.Sprintf("/cr/ready.%d", n), []byte("ready"), 0o666)
		for !exists("go", n) {
			time.Sleep(2 * time.Millisecond)
		}
		if text, _ := os.ReadFile(fmt.Sprintf("/cr/go.%d", n)); len(text) > 0 && text[0] == 'e' {
			return
		}
		for i := range turns {
			before := atomic.LoadUint64(&turns[i])
			for ms := 0; atomic.LoadUint64(&turns[i]) == before; ms++ {
				if ms > 10000 {
					fail(fmt.Sprintf("goroutine %d does not go on", i))
				}
				time.Sleep(time.Millisecond)
			}
		}
		os.WriteFile(fmt.Sprintf("/cr/.result.%d", n), []byte("PASS"), 0o666)
		os.Rename(fmt.Sprintf("/cr/.result.%d", n), fmt.Sprintf("/cr/result.%d", n))
	}
}
