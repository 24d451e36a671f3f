// A server of grpc-go that reports its load, per call and out of band, for callboard's channel to read.
//
// It prints its address, and ends when its standard input does. Out of band it reports every 50 ms.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/status"

	"callboard-grpc-go/often"
)

type health struct {
	grpc_health_v1.UnimplementedHealthServer
}

// Check sets what the call costs; it fails if it is asked for a service.
func (health) Check(ctx context.Context, request *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	recorder := orca.CallMetricsRecorderFromContext(ctx)
	recorder.SetRequestCost("rows", 7)
	recorder.SetNamedMetric("of_call", 1.5)
	if request.GetService() != "" {
		return nil, status.Error(5, "no such service")
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func main() {
	metrics := orca.NewServerMetricsRecorder()
	metrics.SetCPUUtilization(0.25)
	metrics.SetMemoryUtilization(0.5)
	metrics.SetApplicationUtilization(0.75)
	metrics.SetQPS(120.5)
	metrics.SetEPS(1.5)
	metrics.SetNamedUtilization("disk", 0.9)
	server := grpc.NewServer(orca.CallMetricsServerOption(metrics))
	grpc_health_v1.RegisterHealthServer(server, health{})
	if err := often.Register(server, metrics); err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	panic(server.Serve(listener))
}
