// A client of grpc-go that reads a server's load reports, per call and out of band.
//
// Its argument is the server's address. It makes a call, prints what its balancer was told of the load with the call, waits
// for two reports out of band, and prints these.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/orca"
	"google.golang.org/protobuf/types/known/emptypb"

	v3orcapb "github.com/cncf/xds/go/xds/data/orca/v3"
)

var perCall, outOfBand = make(chan *v3orcapb.OrcaLoadReport, 16), make(chan *v3orcapb.OrcaLoadReport, 16)

type listener struct{}

func (listener) OnLoadReport(report *v3orcapb.OrcaLoadReport) { outOfBand <- report }

// builder makes pickers of the first connection, which report what they are told.
type builder struct{}

func (builder) Build(info base.PickerBuildInfo) balancer.Picker {
	for connection := range info.ReadySCs {
		orca.RegisterOOBListener(connection, listener{}, orca.OOBListenerOptions{ReportInterval: 50 * time.Millisecond})
		return picker{connection}
	}
	return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
}

type picker struct{ connection balancer.SubConn }

func (p picker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	done := func(info balancer.DoneInfo) {
		report, _ := info.ServerLoad.(*v3orcapb.OrcaLoadReport)
		perCall <- report
	}
	return balancer.PickResult{SubConn: p.connection, Done: done}, nil
}

func show(how string, report *v3orcapb.OrcaLoadReport) {
	fmt.Printf("%s cpu=%g mem=%g application=%g rps=%g eps=%g cost=%v utilization=%v named=%v\n", how,
		report.GetCpuUtilization(), report.GetMemUtilization(), report.GetApplicationUtilization(),
		report.GetRpsFractional(), report.GetEps(), report.GetRequestCost(), report.GetUtilization(), report.GetNamedMetrics())
}

func main() {
	balancer.Register(base.NewBalancerBuilder("telling", builder{}, base.Config{}))
	connection, err := grpc.NewClient("passthrough:///"+os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"telling": {}}]}`))
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// The empty message is a request of the echo service, and its answer reads as one.
	if err := connection.Invoke(ctx, "/callboard.echo.v1.Echo/Unary", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		panic(err)
	}
	show("call", <-perCall)
	for range 2 {
		select {
		case report := <-outOfBand:
			show("stream", report)
		case <-ctx.Done():
			panic("no report out of band")
		}
	}
}
