// Package often is grpc-go's service for load reports out of band, for tests that cannot wait: by itself it reports every
// 30 s at most.
package often

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/orca"

	v3orcaservicegrpc "github.com/cncf/xds/go/xds/service/orca/v3"
)

// service is grpc-go's own, asked again and again.
type service struct {
	v3orcaservicegrpc.UnimplementedOpenRcaServiceServer
	service *orca.Service
}

type once struct {
	v3orcaservicegrpc.OpenRcaService_StreamCoreMetricsServer
	ctx context.Context
}

func (o once) Context() context.Context { return o.ctx }

func (s service) StreamCoreMetrics(request *v3orcaservicegrpc.OrcaLoadReportRequest, stream v3orcaservicegrpc.OpenRcaService_StreamCoreMetricsServer) error {
	for stream.Context().Err() == nil {
		ctx, cancel := context.WithTimeout(stream.Context(), 50*time.Millisecond)
		_ = s.service.StreamCoreMetrics(request, once{stream, ctx})
		cancel()
	}
	return stream.Context().Err()
}

// Register lets a server report every 50 ms.
func Register(server grpc.ServiceRegistrar, metrics orca.ServerMetricsProvider) error {
	own, err := orca.NewService(orca.ServiceOptions{ServerMetricsProvider: metrics})
	if err != nil {
		return err
	}
	v3orcaservicegrpc.RegisterOpenRcaServiceServer(server, service{service: own})
	return nil
}
