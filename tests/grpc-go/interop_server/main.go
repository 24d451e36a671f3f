// grpc-go's server of gRPC's interoperability cases, which ends gracefully and says what it has seen:
//
//	interop_server [-id ID] [-listen ADDRESS] [-streams MOST] [-certificate FILE -key FILE]
//
// It prints its address. Of its standard input it takes one order a line: "counts" prints how many of the cases' calls
// have begun and how many of them were cancelled; "stop" finishes the calls in flight, prints "stopped" and ends. It ends
// as well when its standard input does.
//
// Beside what grpc-go's own interop server does it knows gzip, and answers with its id if it is asked to.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/orca"

	"callboard-grpc-go/often"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

var (
	id          = flag.String("id", "", "what the server answers as server_id")
	listen      = flag.String("listen", "127.0.0.1:0", "where it listens")
	streams     = flag.Uint("streams", 0, "the most streams of one connection; 0 for grpc-go's default")
	certificate = flag.String("certificate", "", "a PEM file; without it there is no TLS")
	key         = flag.String("key", "", "the certificate's key, a PEM file")

	begun, cancelled atomic.Int64
)

// named is grpc-go's test server, and says who it is.
type named struct {
	testgrpc.TestServiceServer
}

func (n named) UnaryCall(ctx context.Context, request *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	response, err := n.TestServiceServer.UnaryCall(ctx, request)
	if err == nil && request.GetFillServerId() {
		response.ServerId = *id
	}
	return response, err
}

// count notes a call that begins, and whether its client has cancelled it. Calls for load reports are not the cases'.
func count(ctx context.Context, method string, handle func() error) error {
	if !strings.HasPrefix(method, "/grpc.testing.") {
		return handle()
	}
	begun.Add(1)
	err := handle()
	if ctx.Err() == context.Canceled {
		cancelled.Add(1)
	}
	return err
}

func unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	err = count(ctx, info.FullMethod, func() error {
		response, err = handler(ctx, request)
		return err
	})
	return response, err
}

func stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return count(stream.Context(), info.FullMethod, func() error { return handler(service, stream) })
}

func newServer() (*grpc.Server, error) {
	metrics := orca.NewServerMetricsRecorder()
	options := []grpc.ServerOption{
		orca.CallMetricsServerOption(nil),
		grpc.ChainUnaryInterceptor(unary),
		grpc.ChainStreamInterceptor(stream),
	}
	if *streams > 0 {
		options = append(options, grpc.MaxConcurrentStreams(uint32(*streams)))
	}
	if *certificate != "" {
		tls, err := credentials.NewServerTLSFromFile(*certificate, *key)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.Creds(tls))
	}
	server := grpc.NewServer(options...)
	own := interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: metrics})
	testgrpc.RegisterTestServiceServer(server, named{own})
	return server, often.Register(server, metrics)
}

// obey does what standard input says, and ends the process with it.
func obey(server *grpc.Server) {
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		switch orders.Text() {
		case "counts":
			fmt.Println("counts", begun.Load(), cancelled.Load())
		case "stop":
			server.GracefulStop()
			fmt.Println("stopped")
			os.Exit(0)
		default:
			panic("no such order: " + orders.Text())
		}
	}
	os.Exit(0)
}

func main() {
	flag.Parse()
	server, err := newServer()
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	go obey(server)
	if err := server.Serve(listener); err != nil {
		panic(err)
	}
	// It was told to stop; whoever told it is answered first.
	select {}
}
