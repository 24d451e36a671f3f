// The client in Go: grpc-go's round_robin over the servers that are its arguments. It takes the same orders and gives
// the same answers as the clients in Rust, see benches/src/variants/mod.rs.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const method = "/callboard.echo.v1.Echo/Unary"

type sample struct {
	CPU         float64 `json:"cpu_us_per_call"`
	Throughput  float64 `json:"calls_per_second"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	Allocations float64 `json:"allocations_per_call"`
	Failed      int     `json:"failed"`
	Failure     *string `json:"failure"`
}

func main() {
	// As many as the clients in Rust have.
	runtime.GOMAXPROCS(2)
	conn, err := connect(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		var callers, millis int
		if _, err := fmt.Sscan(orders.Text(), &callers, &millis); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		window := time.Duration(millis) * time.Millisecond
		drive(conn, callers, window/4)
		line, _ := json.Marshal(drive(conn, callers, window))
		fmt.Println(string(line))
	}
}

func connect(servers []string) (*grpc.ClientConn, error) {
	addresses := make([]resolver.Address, len(servers))
	for i, server := range servers {
		addresses[i] = resolver.Address{Addr: server}
	}
	registry := manual.NewBuilderWithScheme("bench")
	registry.InitialState(resolver.State{Addresses: addresses})
	conn, err := grpc.NewClient("bench:///echo",
		grpc.WithResolvers(registry),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("not ready within 5 s: %v", state)
		}
	}
	return conn, nil
}

// The echo messages have their payload in field 1, as BytesValue has: on the wire they are the same.
func call(conn *grpc.ClientConn) error {
	payload := []byte{1, 2, 3, 4}
	answer := new(wrapperspb.BytesValue)
	err := conn.Invoke(context.Background(), method, wrapperspb.Bytes(payload), answer, grpc.StaticMethod())
	if err == nil && !bytes.Equal(answer.Value, payload) {
		err = fmt.Errorf("not what was sent")
	}
	return err
}

func drive(conn *grpc.ClientConn, callers int, window time.Duration) sample {
	latencies := make([][]time.Duration, callers)
	failures := make([]error, callers)
	var stop atomic.Bool
	var warm, done sync.WaitGroup
	start := make(chan struct{})
	warm.Add(callers)
	done.Add(callers)
	for i := range callers {
		go func() {
			defer done.Done()
			mine := make([]time.Duration, 0, 1<<14)
			err := call(conn)
			warm.Done()
			<-start
			for err == nil && !stop.Load() {
				begun := time.Now()
				err = call(conn)
				mine = append(mine, time.Since(begun))
			}
			latencies[i], failures[i] = mine, err
		}()
	}
	warm.Wait()
	begun, cpu, made := time.Now(), cpuUsed(), mallocs()
	close(start)
	time.Sleep(window)
	stop.Store(true)
	done.Wait()
	return summarize(latencies, failures, time.Since(begun), cpuUsed()-cpu, mallocs()-made)
}

func cpuUsed() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func mallocs() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}

func summarize(latencies [][]time.Duration, failures []error, elapsed, cpu time.Duration, made uint64) sample {
	all := slices.Concat(latencies...)
	slices.Sort(all)
	calls := float64(max(len(all), 1))
	micros := func(share float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[int(share*calls)].Nanoseconds()) / 1e3
	}
	result := sample{
		CPU:         float64(cpu.Nanoseconds()) / 1e3 / calls,
		Throughput:  calls / elapsed.Seconds(),
		P50:         micros(0.50),
		P99:         micros(0.99),
		Allocations: float64(made) / calls,
	}
	for _, err := range failures {
		if err != nil {
			result.Failed++
			text := err.Error()
			result.Failure = &text
		}
	}
	return result
}
