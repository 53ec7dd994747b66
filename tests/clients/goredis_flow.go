// What a Go program does with go-redis: `GO111MODULE=off go run goredis_flow.go PORT`.
// Ends with 0 when every claim holds; panics at the first that does not.
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	redis "gopkg.in/redis.v5"
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

func strs(c *redis.Client) {
	_, err := c.Get("go:none").Result()
	claim(err == redis.Nil, "an absent key is Nil")
	must(c.Set("go:k", "v", 100*time.Second).Err())
	claim(c.Get("go:k").Val() == "v", "a value comes back")
	claim(c.TTL("go:k").Val() > 40*time.Second, "with its time to live")
	claim(!c.SetNX("go:k", "w", 0).Val(), "NX spares a present key")
	claim(c.SetXX("go:k", "w", 0).Val(), "XX takes it")
	claim(c.IncrBy("go:n", 5).Val() == 5, "counters count")
	claim(c.IncrByFloat("go:f", 1.5).Val() == 1.5, "also in floats")
	claim(c.Incr("go:k").Err().Error() == "ERR value is not an integer or out of range", "errors are Redis' own")
	values := c.MGet("go:k", "go:none", "go:n").Val()
	claim(len(values) == 3 && values[0] == "w" && values[1] == nil && values[2] == "5", "MGET keeps places")
	large := bytes.Repeat([]byte("0123456789abcdef"), 50000)
	must(c.Set("go:large", large, 0).Err())
	back, err := c.Get("go:large").Bytes()
	must(err)
	claim(bytes.Equal(back, large), "a large value comes back")
	claim(c.Append("go:k", "x").Val() == 2 && c.GetRange("go:k", 0, -1).Val() == "wx", "values grow")
	claim(c.SetBit("go:bits", 7, 1).Val() == 0 && c.BitCount("go:bits", nil).Val() == 1, "bits are set and counted")
	claim(c.Del("go:k", "go:none").Val() == 1 && !c.Exists("go:k").Val(), "keys go")
	must(c.Rename("go:n", "go:m").Err())
	claim(c.Type("go:m").Val() == "string", "a renamed key is there")
	claim(c.Expire("go:m", time.Minute).Val() && c.Persist("go:m").Val(), "times are set and taken away")
}

func scans(c *redis.Client) {
	for i := 0; i < 500; i++ {
		must(c.Set(fmt.Sprintf("go:scan:%d", i), i, 0).Err())
	}
	seen := map[string]bool{}
	iterator := c.Scan(0, "go:scan:*", 50).Iterator()
	for iterator.Next() {
		seen[iterator.Val()] = true
	}
	must(iterator.Err())
	claim(len(seen) == 500, "SCAN gives every key")
}

func pipelines(c *redis.Client) {
	pipe := c.Pipeline()
	gets := make([]*redis.StringCmd, 1000)
	for i := range gets {
		pipe.Set(fmt.Sprintf("go:p%d", i), i, 0)
		gets[i] = pipe.Get(fmt.Sprintf("go:p%d", i))
	}
	_, err := pipe.Exec()
	must(err)
	for i, get := range gets {
		claim(get.Val() == fmt.Sprint(i), "a pipeline answers in order")
	}
	cmds, err := c.TxPipelined(func(tx *redis.Pipeline) error {
		tx.Set("go:t", 1, 0)
		tx.Incr("go:t")
		return nil
	})
	must(err)
	claim(len(cmds) == 2 && c.Get("go:t").Val() == "2", "a transaction runs whole")
}

func watches(c *redis.Client) {
	must(c.Set("go:w", 0, 0).Err())
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for done := 0; done < 25; {
				err := c.Watch(func(tx *redis.Tx) error {
					n, err := tx.Get("go:w").Int64()
					if err != nil {
						return err
					}
					_, err = tx.Pipelined(func(pipe *redis.Pipeline) error {
						pipe.Set("go:w", n+1, 0)
						return nil
					})
					return err
				}, "go:w")
				if err == nil {
					done++
				} else if err != redis.TxFailedErr {
					panic(err)
				}
			}
		}()
	}
	group.Wait()
	claim(c.Get("go:w").Val() == "200", "no update of a watched key is lost")
}

func messages(c *redis.Client) {
	listener, err := c.PSubscribe("go:n*")
	must(err)
	defer listener.Close()
	for c.PubSubNumPat().Val() == 0 {
		time.Sleep(time.Millisecond)
	}
	must(c.Publish("go:news", "hi").Err())
	message, err := listener.ReceiveMessage()
	must(err)
	claim(message.Channel == "go:news" && message.Payload == "hi" && message.Pattern == "go:n*", "a message arrives")
}

func main() {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[1], PoolSize: 16,
		DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute, PoolTimeout: time.Minute})
	claim(c.Ping().Val() == "PONG", "it answers")
	strs(c)
	scans(c)
	pipelines(c)
	watches(c)
	messages(c)
	claim(strings.Contains(c.Info("server").Val(), "redis_version"), "INFO has its sections")
	bad := c.Process(redis.NewStatusCmd("nosuchcommand"))
	claim(bad != nil && strings.Contains(bad.Error(), "unknown command"), "an unknown command is an error")
	must(c.Close())
	fmt.Println("go-redis: all claims hold")
}
