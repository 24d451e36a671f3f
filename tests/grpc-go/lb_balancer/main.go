// An external balancer made with grpc-go's package of the protocol:
//
//	lb_balancer INTERVAL
//
// INTERVAL is how often clients shall report, such as 100ms. It prints where it listens, and then what clients say:
//
//	listening 127.0.0.1:40000
//	asked project/test
//	stats {"started":4,"finished":3,"failed_to_send":0,"known_received":3,"dropped":{"busy":1}}
//	over
//
// Each line on its input is said to all clients, and to those to come: a list, as entries apart by blanks of the form
// IP:PORT=TOKEN or drop=TOKEN; or `fallback`; or `hang up`, which ends the conversations that there are.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	lb "google.golang.org/grpc/balancer/grpclb/grpc_lb_v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

func main() {
	interval, err := time.ParseDuration(os.Args[1])
	if err != nil {
		fail(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	balancer := &balancer{interval: interval, changed: make(chan struct{})}
	server := grpc.NewServer()
	lb.RegisterLoadBalancerServer(server, balancer)
	fmt.Println("listening", listener.Addr())
	go func() { fail(server.Serve(listener)) }()
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		balancer.order(orders.Text())
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

type balancer struct {
	lb.UnimplementedLoadBalancerServer
	interval time.Duration

	mu sync.Mutex
	// What is said; nil until there is something.
	said *lb.LoadBalanceResponse
	// How often conversations were ended.
	hungUp int
	// Closed at the next change of these two.
	changed chan struct{}
}

func (b *balancer) order(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch line {
	case "hang up":
		b.hungUp++
	case "fallback":
		b.said = &lb.LoadBalanceResponse{LoadBalanceResponseType: &lb.LoadBalanceResponse_FallbackResponse{
			FallbackResponse: &lb.FallbackResponse{},
		}}
	default:
		b.said = &lb.LoadBalanceResponse{LoadBalanceResponseType: &lb.LoadBalanceResponse_ServerList{
			ServerList: &lb.ServerList{Servers: servers(line)},
		}}
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

func servers(line string) []*lb.Server {
	var servers []*lb.Server
	for _, entry := range strings.Fields(line) {
		address, token, _ := strings.Cut(entry, "=")
		if address == "drop" {
			servers = append(servers, &lb.Server{Drop: true, LoadBalanceToken: token})
			continue
		}
		parsed, err := netip.ParseAddrPort(address)
		if err != nil {
			fail(err)
		}
		servers = append(servers, &lb.Server{
			IpAddress: parsed.Addr().AsSlice(), Port: int32(parsed.Port()), LoadBalanceToken: token,
		})
	}
	return servers
}

func (b *balancer) state() (*lb.LoadBalanceResponse, int, chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said, b.hungUp, b.changed
}

func (b *balancer) BalanceLoad(stream lb.LoadBalancer_BalanceLoadServer) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	fmt.Println("asked", request.GetInitialRequest().GetName())
	defer fmt.Println("over")
	initial := &lb.InitialLoadBalanceResponse{ClientStatsReportInterval: durationpb.New(b.interval)}
	err = stream.Send(&lb.LoadBalanceResponse{LoadBalanceResponseType: &lb.LoadBalanceResponse_InitialResponse{
		InitialResponse: initial,
	}})
	if err != nil {
		return err
	}
	go hear(stream)
	said, ended, changed := b.state()
	for last := (*lb.LoadBalanceResponse)(nil); ; {
		if said != last {
			if err := stream.Send(said); err != nil {
				return err
			}
			last = said
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
		var hungUp int
		if said, hungUp, changed = b.state(); hungUp != ended {
			return nil
		}
	}
}

func hear(stream lb.LoadBalancer_BalanceLoadServer) {
	for {
		request, err := stream.Recv()
		if err != nil {
			return
		}
		stats := request.GetClientStats()
		dropped := map[string]int64{}
		for _, token := range stats.GetCallsFinishedWithDrop() {
			dropped[token.LoadBalanceToken] += token.NumCalls
		}
		line, _ := json.Marshal(map[string]any{
			"started": stats.GetNumCallsStarted(), "finished": stats.GetNumCallsFinished(),
			"failed_to_send": stats.GetNumCallsFinishedWithClientFailedToSend(),
			"known_received": stats.GetNumCallsFinishedKnownReceived(), "dropped": dropped,
		})
		fmt.Println("stats", string(line))
	}
}
