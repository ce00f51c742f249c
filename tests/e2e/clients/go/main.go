// A client with grpc-go: client ADDRESS ENTITY SECONDS [FOLDER]
// Does what test_clients.py lists, on one channel, and prints what it saw as one JSON object.
// FOLDER has ca.pem, client.pem and client.key, for TLS with a certificate of its own.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	pb "cos-ray.test/client/pb"
)

const patience = 20 * time.Second

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func transport(folder string) credentials.TransportCredentials {
	if folder == "" {
		return insecure.NewCredentials()
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(must(os.ReadFile(filepath.Join(folder, "ca.pem"))))
	own := must(tls.LoadX509KeyPair(filepath.Join(folder, "client.pem"), filepath.Join(folder, "client.key")))
	return credentials.NewTLS(&tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{own}})
}

type client struct {
	channel *grpc.ClientConn
	service pb.ChiefOfStateServiceClient
}

func (c client) command(ctx context.Context, entity, script string) (*pb.ProcessCommandResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	command := &anypb.Any{TypeUrl: "type.test/Script", Value: []byte(script)}
	return c.service.ProcessCommand(ctx, &pb.ProcessCommandRequest{EntityId: entity, Command: command})
}

func code(err error) int { return int(status.Code(err)) }

func (c client) refusal(entity string) []any {
	_, err := c.command(context.Background(), entity, `{"refuse": [9, "no"], "details": true}`)
	refused := status.Convert(err)
	return []any{int(refused.Code()), refused.Message(), refused.Details()[0].(*errdetails.ErrorInfo).Reason}
}

func (c client) deadline(entity string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := c.command(ctx, entity, `{"sleep": 10}`)
	return code(err)
}

func (c client) cancel(entity string) int {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(300*time.Millisecond, cancel)
	_, err := c.command(ctx, entity, `{"sleep": 10}`)
	return code(err)
}

func (c client) withMetadata(entity string, size int) int {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-large", strings.Repeat("m", size))
	_, err := c.command(ctx, entity, `{"events": ["m"]}`)
	return code(err)
}

// The revisions of `count` messages from one revision on, and how the cancelled stream ended.
func (c client) stream(entity string, from, count int) []any {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-cos-from-revision", strconv.Itoa(from))
	stream := must(c.service.Subscribe(ctx, &pb.SubscribeRequest{EntityId: entity}))
	ids := must(stream.Header()).Get("x-cos-subscription-id")
	if len(ids) != 1 {
		// It has ended without any: this says how.
		must(stream.Recv())
	}
	id := ids[0]
	seen := []any{}
	for range count {
		message := must(stream.Recv())
		if message.SubscriptionId != id {
			fmt.Fprintln(os.Stderr, "the metadata name another subscription than the messages")
			os.Exit(1)
		}
		seen = append(seen, message.Meta.RevisionNumber)
	}
	cancel()
	for {
		// What had arrived before is still handed out.
		if _, err := stream.Recv(); err != nil {
			return append(seen, code(err))
		}
	}
}

func (c client) health() []string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	service := grpc_health_v1.NewHealthClient(c.channel)
	checked := must(service.Check(ctx, &grpc_health_v1.HealthCheckRequest{}))
	watched := must(must(service.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})).Recv())
	return []string{checked.Status.String(), watched.Status.String()}
}

func (c client) reflection() []string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream := must(grpc_reflection_v1.NewServerReflectionClient(c.channel).ServerReflectionInfo(ctx))
	ask := &grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}
	must(0, stream.Send(ask))
	names := []string{}
	for _, service := range must(stream.Recv()).GetListServicesResponse().Service {
		names = append(names, service.Name)
	}
	slices.Sort(names)
	return names
}

// Four callers for some seconds: how many calls there were, and the codes of those that failed.
func (c client) load(entity string, seconds float64) map[string]any {
	var lock sync.Mutex
	var callers sync.WaitGroup
	calls, failed := 0, []string{}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for number := range 4 {
		callers.Go(func() {
			for time.Now().Before(end) {
				_, err := c.command(context.Background(), fmt.Sprintf("%s-%d", entity, number), `{"events": ["l"]}`)
				lock.Lock()
				calls++
				if err != nil {
					failed = append(failed, err.Error())
				}
				lock.Unlock()
			}
		})
	}
	callers.Wait()
	return map[string]any{"calls": calls, "failed": failed}
}

func main() {
	address, entity, seconds, folder := os.Args[1], os.Args[2], must(strconv.ParseFloat(os.Args[3], 64)), ""
	if len(os.Args) > 4 {
		folder = os.Args[4]
	}
	channel := must(grpc.NewClient(address, grpc.WithTransportCredentials(transport(folder))))
	defer channel.Close()
	c := client{channel, pb.NewChiefOfStateServiceClient(channel)}
	first := must(c.command(context.Background(), entity, `{"events": ["a", "b"]}`))
	seen := map[string]any{
		"command":   []any{first.Meta.RevisionNumber, string(first.State.Value)},
		"refusal":   c.refusal(entity),
		"deadline":  c.deadline(entity + "-late"),
		"cancel":    c.cancel(entity + "-cancelled"),
		"metadata":  []int{c.withMetadata(entity, 15_000), c.withMetadata(entity, 18_000)},
		"subscribe": c.stream(entity, 1, 2),
		"resume":    c.stream(entity, 3, 1),
		"health":    c.health(),
		"services":  c.reflection(),
		"load":      c.load(entity, seconds),
	}
	must(0, json.NewEncoder(os.Stdout).Encode(seen))
}
