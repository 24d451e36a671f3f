// A client of callboard's echo service that asks an external balancer, by grpc-go's own grpclb:
//
//	lb_client BALANCER[,BALANCER] [BACKEND[,BACKEND]]
//
// For each line on its input, a number, it makes so many calls, one after the other, and prints one line: who answered
// how many, and how many failed with which message, as JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/grpclb"
	"google.golang.org/grpc/balancer/grpclb/state"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	conn, err := connect(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		var calls int
		if _, err := fmt.Sscan(orders.Text(), &calls); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		answers := map[string]int{}
		for range calls {
			answers[call(conn)]++
		}
		line, _ := json.Marshal(answers)
		fmt.Println(string(line))
	}
}

func connect(args []string) (*grpc.ClientConn, error) {
	registry := manual.NewBuilderWithScheme("registry")
	known := resolver.State{}
	if len(args) > 1 {
		known.Addresses = addresses(args[1])
	}
	registry.InitialState(state.Set(known, &state.State{BalancerAddresses: addresses(args[0])}))
	return grpc.NewClient("registry:///project/test",
		grpc.WithResolvers(registry),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Else it is "project%2Ftest", which servers in Rust refuse as no authority.
		grpc.WithAuthority("project.test"),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"grpclb":{}}]}`))
}

func addresses(list string) []resolver.Address {
	var addresses []resolver.Address
	for _, address := range strings.Split(list, ",") {
		addresses = append(addresses, resolver.Address{Addr: address})
	}
	return addresses
}

// Who answered, or the message that the call failed with.
func call(conn *grpc.ClientConn) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// The answer's field 2 is the server's name; what is not known of a message is kept as it was on the wire.
	answer := new(emptypb.Empty)
	if err := conn.Invoke(ctx, "/callboard.echo.v1.Echo/Unary", new(emptypb.Empty), answer, grpc.WaitForReady(true)); err != nil {
		return status.Convert(err).Message()
	}
	unknown := answer.ProtoReflect().GetUnknown()
	return string(unknown[2:])
}
