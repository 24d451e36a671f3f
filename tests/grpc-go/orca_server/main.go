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
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/status"

	v3orcaservicegrpc "github.com/cncf/xds/go/xds/service/orca/v3"
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

// often is grpc-go's own service, which reports every 30 s at most, asked again and again.
type often struct {
	v3orcaservicegrpc.UnimplementedOpenRcaServiceServer
	service *orca.Service
}

type once struct {
	v3orcaservicegrpc.OpenRcaService_StreamCoreMetricsServer
	ctx context.Context
}

func (o once) Context() context.Context { return o.ctx }

func (o often) StreamCoreMetrics(request *v3orcaservicegrpc.OrcaLoadReportRequest, stream v3orcaservicegrpc.OpenRcaService_StreamCoreMetricsServer) error {
	for stream.Context().Err() == nil {
		ctx, cancel := context.WithTimeout(stream.Context(), 50*time.Millisecond)
		_ = o.service.StreamCoreMetrics(request, once{stream, ctx})
		cancel()
	}
	return stream.Context().Err()
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
	service, err := orca.NewService(orca.ServiceOptions{ServerMetricsProvider: metrics})
	if err != nil {
		panic(err)
	}
	v3orcaservicegrpc.RegisterOpenRcaServiceServer(server, often{service: service})
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
