// A client of callboard's echo service under a service config, for what grpc-go makes of it:
//
//	retry_client SERVER CONFIG CALLS SIZE
//
// It makes so many unary calls, one after the other, each with so many bytes, and prints the code of each in a line.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(server, config, calls, size string) error {
	count, err := strconv.Atoi(calls)
	if err != nil {
		return err
	}
	bytes, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+server,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("project.test"),
		grpc.WithDefaultServiceConfig(config))
	if err != nil {
		return err
	}
	defer conn.Close()
	// The request's field 1 is its payload.
	request := new(emptypb.Empty)
	request.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), make([]byte, bytes)))
	for range count {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		err := conn.Invoke(ctx, "/callboard.echo.v1.Echo/Unary", request, new(emptypb.Empty))
		cancel()
		fmt.Println(uint32(status.Code(err)))
	}
	return nil
}
