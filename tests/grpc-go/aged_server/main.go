// A server of callboard's echo service whose connections end when they are as old as its argument says, such as 300ms. It
// prints its address.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(text string) error {
	age, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: age}),
		grpc.UnknownServiceHandler(echo))
	return server.Serve(listener)
}

func echo(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	switch path.Base(method) {
	case "Unary", "ServerStreaming":
		message := new(emptypb.Empty)
		if err := stream.RecvMsg(message); err != nil {
			return err
		}
		request := read(message)
		if path.Base(method) == "Unary" {
			request.repeat = 1
		}
		for range request.repeat {
			if err := answer(stream, request); err != nil {
				return err
			}
		}
		return nil
	case "Bidirectional":
		for {
			message := new(emptypb.Empty)
			if err := stream.RecvMsg(message); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := answer(stream, read(message)); err != nil {
				return err
			}
		}
	}
	return status.Error(codes.Unimplemented, method)
}

type request struct {
	payload       []byte
	delay, repeat uint64
}

// The fields of a message that is not known here.
func read(message *emptypb.Empty) (read request) {
	for fields := message.ProtoReflect().GetUnknown(); len(fields) > 0; {
		number, kind, tag := protowire.ConsumeTag(fields)
		value := protowire.ConsumeFieldValue(number, kind, fields[tag:])
		if value < 0 {
			return
		}
		switch number {
		case 1:
			read.payload, _ = protowire.ConsumeBytes(fields[tag:])
		case 2:
			read.delay, _ = protowire.ConsumeVarint(fields[tag:])
		case 3:
			read.repeat, _ = protowire.ConsumeVarint(fields[tag:])
		}
		fields = fields[tag+value:]
	}
	return
}

func answer(stream grpc.ServerStream, request request) error {
	time.Sleep(time.Duration(request.delay) * time.Millisecond)
	response := new(emptypb.Empty)
	response.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), request.payload))
	return stream.SendMsg(response)
}
