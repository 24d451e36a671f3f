// Callers of callboard's echo service by grpc-go's round_robin, to compare callboard with:
//
//	load_client SERVER,SERVER... UNARY STREAMS DELAY_MS WAIT PAUSE_US PAUSE_US
//
// So many make unary calls at a time, about which the server thinks so long, and wait at least and at most so long between
// them; so many have a server stream at a time, and as many a bidirectional one. With WAIT 1 calls wait for a server. Each
// 20 ms, and at its end, which is at SIGTERM, it prints
//
//	calls UNARY STREAMS CONNECTIONS SLOWEST_US
//
// and at its end, for each failure, "failed COUNT STATUS". Its last line is "over".
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	service  = "/callboard.echo.v1.Echo/"
	messages = 20
	apart    = 20
)

var (
	unary, streams, connections, slowest atomic.Int64
	failures                             sync.Map
	over                                 atomic.Bool
	port                                 = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

func main() {
	var figures [6]int
	for i := range figures {
		figure, err := strconv.Atoi(os.Args[2+i])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		figures[i] = figure
	}
	conn, err := connect(strings.Split(os.Args[1], ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	options := []grpc.CallOption{grpc.WaitForReady(figures[3] == 1)}
	var callers sync.WaitGroup
	start := func(count int, call func() error, counted *atomic.Int64, least, most int) {
		for range count {
			callers.Go(func() { callAll(call, counted, least, most) })
		}
	}
	start(figures[0], func() error { return callUnary(conn, figures[2], options) }, &unary, figures[4], figures[5])
	start(figures[1], func() error { return serverStream(conn, options) }, &streams, 0, 0)
	start(figures[1], func() error { return bidirectional(conn, options) }, &streams, 0, 0)
	for tick := time.NewTicker(20 * time.Millisecond); !over.Load(); {
		select {
		case <-tick.C:
			tell()
		case <-end:
			over.Store(true)
		}
	}
	callers.Wait()
	failures.Range(func(failure, count any) bool {
		fmt.Println("failed", count.(*atomic.Int64).Load(), failure)
		return true
	})
	tell()
	fmt.Println("over")
}

func tell() {
	fmt.Println("calls", unary.Load(), streams.Load(), connections.Load(), slowest.Load())
}

func connect(servers []string) (*grpc.ClientConn, error) {
	addresses := make([]resolver.Address, len(servers))
	for i, server := range servers {
		addresses[i] = resolver.Address{Addr: server}
	}
	registry := manual.NewBuilderWithScheme("load")
	registry.InitialState(resolver.State{Addresses: addresses})
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			connections.Add(1)
		}
		return conn, err
	}
	return grpc.NewClient("load:///echo",
		grpc.WithResolvers(registry),
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
}

func callAll(call func() error, counted *atomic.Int64, least, most int) {
	for !over.Load() {
		begun := time.Now()
		err := call()
		counted.Add(1)
		if err != nil {
			failed(err)
			time.Sleep(5 * time.Millisecond)
			continue
		}
		took := time.Since(begun).Microseconds()
		for counted == &unary && took > slowest.Load() {
			slowest.Store(took)
		}
		if most > 0 {
			time.Sleep(time.Duration(least+rand.IntN(most-least)) * time.Microsecond)
		}
	}
}

func failed(err error) {
	text := port.ReplaceAllString(fmt.Sprintf("%v: %s", status.Code(err), status.Convert(err).Message()), "proxy")
	text = strings.ReplaceAll(text, "\n", " ")
	count, _ := failures.LoadOrStore(text, new(atomic.Int64))
	count.(*atomic.Int64).Add(1)
}

// A message whose fields are not known here: payload, delay_ms and repeat.
func request(delay, repeat int) *emptypb.Empty {
	fields := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("echo"))
	fields = protowire.AppendVarint(protowire.AppendTag(fields, 2, protowire.VarintType), uint64(delay))
	fields = protowire.AppendVarint(protowire.AppendTag(fields, 3, protowire.VarintType), uint64(repeat))
	message := new(emptypb.Empty)
	message.ProtoReflect().SetUnknown(fields)
	return message
}

func callUnary(conn *grpc.ClientConn, delay int, options []grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return conn.Invoke(ctx, service+"Unary", request(delay, 0), new(emptypb.Empty), options...)
}

func serverStream(conn *grpc.ClientConn, options []grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, service+"ServerStreaming", options...)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request(apart, messages)); err != nil && err != io.EOF {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for count := 0; ; count++ {
		if err := stream.RecvMsg(new(emptypb.Empty)); err == io.EOF && count == messages {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func bidirectional(conn *grpc.ClientConn, options []grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := conn.NewStream(ctx, desc, service+"Bidirectional", options...)
	if err != nil {
		return err
	}
	for range messages {
		// That it is refused is said by what comes then.
		if err := stream.SendMsg(request(apart, 0)); err != nil && err != io.EOF {
			return err
		}
		if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(new(emptypb.Empty)); err != io.EOF {
		return err
	}
	return nil
}
