// grpc-go's server with its own rules about PINGs, for callboard's keepalive to be tried on. It answers every call with
// headers and then is silent. It prints its address, then a line for each connection that comes or goes, each PING that
// it receives and each GOAWAY that it sends. Its argument is the shortest time between two PINGs that it bears; without
// one it is as grpc-go is by default, which bears one in 5 minutes. It lives until its standard input ends.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(arguments []string) error {
	options := []grpc.ServerOption{grpc.UnknownServiceHandler(silence)}
	if len(arguments) > 0 {
		least, err := time.ParseDuration(arguments[0])
		if err != nil {
			return err
		}
		policy := keepalive.EnforcementPolicy{MinTime: least, PermitWithoutStream: false}
		options = append(options, grpc.KeepaliveEnforcementPolicy(policy))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := grpc.NewServer(options...)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	if err := server.Serve(watching{listener}); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Answers with headers alone, until the caller goes.
func silence(_ any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// A listener whose connections tell what passes through them.
type watching struct{ net.Listener }

func (w watching) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	fmt.Println("open")
	return watch(conn), nil
}

type watched struct {
	net.Conn
	in, out *io.PipeWriter
	closed  sync.Once
}

func watch(conn net.Conn) *watched {
	inReader, in := io.Pipe()
	outReader, out := io.Pipe()
	go func() {
		if _, err := io.CopyN(io.Discard, inReader, int64(len(http2.ClientPreface))); err == nil {
			frames(inReader, func(frame http2.Frame) {
				if ping, ok := frame.(*http2.PingFrame); ok && !ping.IsAck() {
					fmt.Println("ping")
				}
			})
		}
		_, _ = io.Copy(io.Discard, inReader)
	}()
	go func() {
		frames(outReader, func(frame http2.Frame) {
			if goAway, ok := frame.(*http2.GoAwayFrame); ok {
				fmt.Printf("goaway %v %s\n", goAway.ErrCode, goAway.DebugData())
			}
		})
		_, _ = io.Copy(io.Discard, outReader)
	}()
	return &watched{Conn: conn, in: in, out: out}
}

// Reads frames until there are no more.
func frames(from io.Reader, each func(http2.Frame)) {
	framer := http2.NewFramer(io.Discard, from)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		each(frame)
	}
}

func (w *watched) Read(bytes []byte) (int, error) {
	count, err := w.Conn.Read(bytes)
	_, _ = w.in.Write(bytes[:count])
	return count, err
}

func (w *watched) Write(bytes []byte) (int, error) {
	count, err := w.Conn.Write(bytes)
	_, _ = w.out.Write(bytes[:count])
	return count, err
}

func (w *watched) Close() error {
	w.closed.Do(func() {
		fmt.Println("closed")
		_ = w.in.Close()
		_ = w.out.Close()
	})
	return w.Conn.Close()
}
