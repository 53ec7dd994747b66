// What a Go program does with gomemcache: `GO111MODULE=off go run gomemcache_flow.go PORT`.
// Ends with 0 when every claim holds; panics at the first that does not.
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

func claim(holds bool, what string) {
	if !holds {
		panic("does not hold: " + what)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	c := memcache.New("127.0.0.1:" + os.Args[1])
	c.Timeout = time.Minute

	_, err := c.Get("go")
	claim(err == memcache.ErrCacheMiss, "an absent key is a miss")
	must(c.Set(&memcache.Item{Key: "go", Value: []byte("v"), Flags: 0xdeadbeef}))
	item, err := c.Get("go")
	must(err)
	claim(string(item.Value) == "v" && item.Flags == 0xdeadbeef, "value and 32 bits of flags come back")
	claim(c.Add(&memcache.Item{Key: "go", Value: []byte("w")}) == memcache.ErrNotStored, "add spares a present key")
	claim(c.Replace(&memcache.Item{Key: "none", Value: []byte("w")}) == memcache.ErrNotStored, "replace needs one")

	item.Value = []byte("cas")
	must(c.CompareAndSwap(item))
	claim(c.CompareAndSwap(item) == memcache.ErrCASConflict, "a token is good once")
	must(c.Delete("go"))
	claim(c.CompareAndSwap(item) == memcache.ErrCacheMiss || c.CompareAndSwap(item) == memcache.ErrNotStored, "cas of an absent key")
	claim(c.Delete("go") == memcache.ErrCacheMiss, "delete of an absent key")

	must(c.Set(&memcache.Item{Key: "n", Value: []byte("41")}))
	n, err := c.Increment("n", 1)
	must(err)
	claim(n == 42, "increment adds")
	n, err = c.Decrement("n", 50)
	must(err)
	claim(n == 0, "decrement stops at 0")

	large := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	must(c.Set(&memcache.Item{Key: "large", Value: large}))
	item, err = c.Get("large")
	must(err)
	claim(bytes.Equal(item.Value, large), "a large value comes back")
	err = c.Set(&memcache.Item{Key: "large", Value: bytes.Repeat(large, 40)})
	claim(err != nil && strings.Contains(err.Error(), "too large"), "one too large is refused")
	_, err = c.Get("large")
	claim(err == memcache.ErrCacheMiss, "and the connection goes on; the old value is gone")

	// Many connections at once, as the client opens them.
	var wait sync.WaitGroup
	for g := 0; g < 16; g++ {
		wait.Add(1)
		go func(g int) {
			defer wait.Done()
			keys := []string{}
			for i := 0; i < 100; i++ {
				key := fmt.Sprintf("g%d-%d", g, i)
				must(c.Set(&memcache.Item{Key: key, Value: []byte(key)}))
				keys = append(keys, key)
			}
			found, err := c.GetMulti(append(keys, "none"))
			must(err)
			claim(len(found) == 100 && string(found[keys[7]].Value) == keys[7], "GetMulti answers what is there")
		}(g)
	}
	wait.Wait()

	must(c.Set(&memcache.Item{Key: "short", Value: []byte("v"), Expiration: 1}))
	for limit := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := c.Get("short"); err == memcache.ErrCacheMiss {
			break
		}
		claim(time.Now().Before(limit), "a second ends")
	}
	fmt.Println("gomemcache: all claims hold")
}
