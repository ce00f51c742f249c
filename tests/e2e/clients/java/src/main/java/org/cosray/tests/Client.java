package org.cosray.tests;

import com.github.chiefofstate.protobuf.v1.*;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.ErrorInfo;
import io.grpc.*;
import io.grpc.health.v1.*;
import io.grpc.protobuf.StatusProto;
import io.grpc.reflection.v1.*;
import io.grpc.stub.*;
import java.io.File;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

/**
 * A client with grpc-java: Client ADDRESS ENTITY SECONDS [FOLDER]
 * Does what test_clients.py lists, on one channel, and prints what it saw as one JSON object.
 * FOLDER has ca.pem, client.pem and client.key, for TLS with a certificate of its own.
 */
public final class Client {
  private static final int PATIENCE = 20;
  private static final Metadata.Key<String> FROM = key("x-cos-from-revision");
  private static final Metadata.Key<String> SUBSCRIPTION = key("x-cos-subscription-id");

  private final ManagedChannel channel;
  private final ChiefOfStateServiceGrpc.ChiefOfStateServiceBlockingStub service;

  private Client(String address, String folder) throws Exception {
    ChannelCredentials credentials = InsecureChannelCredentials.create();
    if (folder != null) {
      credentials = TlsChannelCredentials.newBuilder()
          .trustManager(new File(folder, "ca.pem"))
          .keyManager(new File(folder, "client.pem"), new File(folder, "client.key"))
          .build();
    }
    channel = Grpc.newChannelBuilder(address, credentials).build();
    service = ChiefOfStateServiceGrpc.newBlockingStub(channel);
  }

  public static void main(String[] arguments) throws Exception {
    Client client = new Client(arguments[0], arguments.length > 3 ? arguments[3] : null);
    String entity = arguments[1];
    ProcessCommandResponse first = client.service.withDeadlineAfter(PATIENCE, TimeUnit.SECONDS)
        .processCommand(command(entity, "{\"events\": [\"a\", \"b\"]}"));
    List<String> seen = List.of(
        field("command", list(first.getMeta().getRevisionNumber(), text(first.getState().getValue().toStringUtf8()))),
        field("refusal", client.refusal(entity)),
        field("deadline", client.deadline(entity + "-late")),
        field("cancel", client.cancel(entity + "-cancelled")),
        field("metadata", list(client.withMetadata(entity, 15_000), client.withMetadata(entity, 18_000))),
        field("subscribe", client.stream(entity, 1, 2)),
        field("resume", client.stream(entity, 3, 1)),
        field("health", client.health()),
        field("services", client.reflection()),
        field("load", client.load(entity, Double.parseDouble(arguments[2]))));
    System.out.println("{" + String.join(", ", seen) + "}");
    client.channel.shutdownNow();
  }

  private String refusal(String entity) {
    StatusRuntimeException refused = failure(() -> service.withDeadlineAfter(PATIENCE, TimeUnit.SECONDS)
        .processCommand(command(entity, "{\"refuse\": [9, \"no\"], \"details\": true}")));
    try {
      ErrorInfo info = StatusProto.fromThrowable(refused).getDetails(0).unpack(ErrorInfo.class);
      return list(code(refused), text(refused.getStatus().getDescription()), text(info.getReason()));
    } catch (Exception error) {
      throw new IllegalStateException(error);
    }
  }

  private int deadline(String entity) {
    return code(failure(() -> service.withDeadlineAfter(300, TimeUnit.MILLISECONDS)
        .processCommand(command(entity, "{\"sleep\": 10}"))));
  }

  private int cancel(String entity) throws Exception {
    ListenableCall call = new ListenableCall();
    Context.CancellableContext context = Context.current().withCancellation();
    context.run(() -> ChiefOfStateServiceGrpc.newStub(channel)
        .processCommand(command(entity, "{\"sleep\": 10}"), call));
    Thread.sleep(300);
    context.cancel(null);
    return call.code.get(PATIENCE, TimeUnit.SECONDS);
  }

  private int withMetadata(String entity, int size) {
    Metadata metadata = new Metadata();
    metadata.put(key("x-large"), "m".repeat(size));
    try {
      service.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata))
          .withDeadlineAfter(PATIENCE, TimeUnit.SECONDS)
          .processCommand(command(entity, "{\"events\": [\"m\"]}"));
      return 0;
    } catch (StatusRuntimeException error) {
      return code(error);
    }
  }

  /** The revisions of `count` messages from one revision on, and how the cancelled stream ended. */
  private String stream(String entity, int from, int count) {
    Metadata metadata = new Metadata();
    metadata.put(FROM, Integer.toString(from));
    AtomicReference<Metadata> headers = new AtomicReference<>();
    AtomicReference<Metadata> trailers = new AtomicReference<>();
    List<Object> seen = new ArrayList<>();
    Context.CancellableContext context = Context.current().withCancellation();
    Context previous = context.attach();
    try {
      Iterator<SubscribeResponse> messages = service
          .withInterceptors(
              MetadataUtils.newAttachHeadersInterceptor(metadata),
              MetadataUtils.newCaptureMetadataInterceptor(headers, trailers))
          .withDeadlineAfter(PATIENCE, TimeUnit.SECONDS)
          .subscribe(SubscribeRequest.newBuilder().setEntityId(entity).build());
      while (seen.size() < count) {
        SubscribeResponse message = messages.next();
        if (!message.getSubscriptionId().equals(headers.get().get(SUBSCRIPTION))) {
          throw new IllegalStateException("the metadata name another subscription than the messages");
        }
        seen.add(message.getMeta().getRevisionNumber());
      }
      context.cancel(null);
      // What had arrived before is still handed out.
      seen.add(code(failure(() -> {
        while (messages.hasNext()) {
          messages.next();
        }
        return null;
      })));
    } finally {
      context.detach(previous);
    }
    return list(seen.toArray());
  }

  private String health() {
    HealthGrpc.HealthBlockingStub health =
        HealthGrpc.newBlockingStub(channel).withDeadlineAfter(PATIENCE, TimeUnit.SECONDS);
    HealthCheckRequest all = HealthCheckRequest.getDefaultInstance();
    return list(text(health.check(all).getStatus().name()), text(health.watch(all).next().getStatus().name()));
  }

  private String reflection() throws Exception {
    CompletableFuture<ServerReflectionResponse> reply = new CompletableFuture<>();
    StreamObserver<ServerReflectionRequest> asked = ServerReflectionGrpc.newStub(channel)
        .withDeadlineAfter(PATIENCE, TimeUnit.SECONDS)
        .serverReflectionInfo(new StreamObserver<>() {
          public void onNext(ServerReflectionResponse message) { reply.complete(message); }
          public void onError(Throwable error) { reply.completeExceptionally(error); }
          public void onCompleted() {}
        });
    asked.onNext(ServerReflectionRequest.newBuilder().setListServices("").build());
    Object[] names = reply.get(PATIENCE, TimeUnit.SECONDS).getListServicesResponse().getServiceList().stream()
        .map(each -> text(each.getName())).sorted().toArray();
    asked.onCompleted();
    return list(names);
  }

  /** Four callers for some seconds: how many calls there were, and how those that failed did. */
  private String load(String entity, double seconds) throws Exception {
    AtomicInteger calls = new AtomicInteger();
    Queue<Object> failed = new ConcurrentLinkedQueue<>();
    long end = System.nanoTime() + (long) (seconds * 1e9);
    List<Thread> callers = IntStream.range(0, 4).mapToObj(number -> new Thread(() -> {
      while (System.nanoTime() < end) {
        try {
          calls.incrementAndGet();
          service.withDeadlineAfter(PATIENCE, TimeUnit.SECONDS)
              .processCommand(command(entity + "-" + number, "{\"events\": [\"l\"]}"));
        } catch (StatusRuntimeException error) {
          failed.add(text(error.getMessage()));
        }
      }
    })).toList();
    callers.forEach(Thread::start);
    for (Thread caller : callers) {
      caller.join();
    }
    return "{" + field("calls", calls) + ", " + field("failed", list(failed.toArray())) + "}";
  }

  private static ProcessCommandRequest command(String entity, String script) {
    Any command = Any.newBuilder().setTypeUrl("type.test/Script").setValue(ByteString.copyFromUtf8(script)).build();
    return ProcessCommandRequest.newBuilder().setEntityId(entity).setCommand(command).build();
  }

  private static StatusRuntimeException failure(Supplier call) {
    try {
      call.get();
    } catch (StatusRuntimeException error) {
      return error;
    }
    throw new IllegalStateException("it was to fail");
  }

  private interface Supplier { Object get(); }

  private static final class ListenableCall implements StreamObserver<ProcessCommandResponse> {
    final CompletableFuture<Integer> code = new CompletableFuture<>();
    public void onNext(ProcessCommandResponse reply) {}
    public void onError(Throwable error) { code.complete(Status.fromThrowable(error).getCode().value()); }
    public void onCompleted() { code.complete(0); }
  }

  private static int code(StatusRuntimeException error) { return error.getStatus().getCode().value(); }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static String field(String name, Object value) { return text(name) + ": " + value; }

  private static String list(Object... values) { return Arrays.toString(values); }

  private static String text(String value) {
    return "\"" + value.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", " ") + "\"";
  }
}
