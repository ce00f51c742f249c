// A client in another language, with another gRPC library: node outside_client.js ADDRESS PROTOS ENTITY
// Prints the revisions of a stream from the first one on, how it ended, and how a wrong one is refused.
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, protos, entity] = process.argv.slice(2);
const definition = loader.loadSync("chief_of_state/v1/service.proto", { includeDirs: [protos], keepCase: true });
const service = grpc.loadPackageDefinition(definition).chief_of_state.v1.ChiefOfStateService;
const client = new service(address, grpc.credentials.createInsecure());

function stream(from, onMessage) {
  const metadata = new grpc.Metadata();
  metadata.set("x-cos-from-revision", from);
  return new Promise((resolve) => {
    const call = client.Subscribe({ entity_id: entity, subscription_id: "from node" }, metadata);
    call.on("data", onMessage);
    call.on("error", (error) => resolve(`${grpc.status[error.code]}: ${error.details}`));
    call.on("end", () => setTimeout(() => resolve("completed"), 100));
  });
}

async function main() {
  const revisions = [];
  console.log(await stream("one", () => {}));
  const ended = stream("1", (message) => {
    revisions.push(message.meta.revision_number);
    if (revisions.length === 3) {
      client.Unsubscribe({ subscription_id: message.subscription_id }, (error, reply) => {
        console.log(error ? error.message : `unsubscribed ${reply.subscription_id}`);
      });
    }
  });
  const end = await ended;
  console.log(revisions.join(" "), end);
  client.close();
}

main();
