// A client with @grpc/grpc-js: node client.js ADDRESS ENTITY SECONDS PROTOS [FOLDER]
// Does what test_clients.py lists, on one channel, and prints what it saw as one JSON object.
// FOLDER has ca.pem, client.pem and client.key, for TLS with a certificate of its own.
const fs = require("fs");
const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, entity, seconds, protos, folder] = process.argv.slice(2);
const PATIENCE = 20_000;

const inPackage = (name, ...way) => path.join(path.dirname(require.resolve(`${name}/package.json`)), ...way);
const loaded = (file, folder_) =>
  grpc.loadPackageDefinition(
    loader.loadSync(file, { includeDirs: [folder_], keepCase: true, enums: String, longs: Number }),
  );
const { ChiefOfStateService } = loaded("chief_of_state/v1/service.proto", protos).chief_of_state.v1;
const { Health } = loaded("health.proto", inPackage("grpc-health-check", "proto", "health", "v1")).grpc.health.v1;
const { ServerReflection } = loaded(
  "reflection.proto",
  inPackage("@grpc/reflection", "build", "proto", "grpc", "reflection", "v1"),
).grpc.reflection.v1;

const read = (name) => fs.readFileSync(path.join(folder, name));
const credentials = folder
  ? grpc.credentials.createSsl(read("ca.pem"), read("client.key"), read("client.pem"))
  : grpc.credentials.createInsecure();
const client = new ChiefOfStateService(address, credentials);
const onSameChannel = { channelOverride: client.getChannel() };
const within = (milliseconds) => ({ deadline: Date.now() + milliseconds });

// A command's call and its end: [code, reply or error].
function command(id, script, milliseconds = PATIENCE, metadata = new grpc.Metadata()) {
  const request = {
    entity_id: id,
    command: { type_url: "type.test/Script", value: Buffer.from(JSON.stringify(script)) },
  };
  let call;
  const ended = new Promise((resolve) => {
    call = client.ProcessCommand(request, metadata, within(milliseconds), (error, reply) =>
      resolve(error ? [error.code, error] : [grpc.status.OK, reply]),
    );
  });
  return { call, ended };
}

async function refusal() {
  const [code, error] = await command(entity, { refuse: [9, "no"], details: true }).ended;
  const [details] = error.metadata.get("grpc-status-details-bin");
  return [code, error.details, details.includes("AS_TOLD") ? "AS_TOLD" : details.toString()];
}

async function deadline() {
  return (await command(`${entity}-late`, { sleep: 10 }, 300).ended)[0];
}

async function cancel() {
  const { call, ended } = command(`${entity}-cancelled`, { sleep: 10 });
  setTimeout(() => call.cancel(), 300);
  return (await ended)[0];
}

async function withMetadata(size) {
  const metadata = new grpc.Metadata();
  metadata.set("x-large", "m".repeat(size));
  return (await command(entity, { events: ["m"] }, PATIENCE, metadata).ended)[0];
}

// The revisions of `count` messages from one revision on, and how the cancelled stream ended.
function stream(from, count) {
  const metadata = new grpc.Metadata();
  metadata.set("x-cos-from-revision", String(from));
  return new Promise((resolve, reject) => {
    const seen = [];
    let id;
    const call = client.Subscribe({ entity_id: entity }, metadata, within(PATIENCE));
    call.on("metadata", (initial) => ([id] = initial.get("x-cos-subscription-id")));
    call.on("data", (message) => {
      if (message.subscription_id !== id) reject(new Error("the metadata name another subscription"));
      // What had arrived before it was given up is still handed out.
      if (seen.length < count) seen.push(message.meta.revision_number);
      if (seen.length === count) call.cancel();
    });
    call.on("error", (error) => resolve([...seen, error.code]));
  });
}

async function health() {
  const service = new Health(address, credentials, onSameChannel);
  const checked = await new Promise((resolve, reject) =>
    service.Check({}, within(PATIENCE), (error, reply) => (error ? reject(error) : resolve(reply.status))),
  );
  const watched = await new Promise((resolve, reject) => {
    const call = service.Watch({}, within(PATIENCE));
    call.on("data", (reply) => resolve(reply.status) || call.cancel());
    call.on("error", reject);
  });
  return [checked, watched];
}

function reflection() {
  return new Promise((resolve, reject) => {
    const call = new ServerReflection(address, credentials, onSameChannel).ServerReflectionInfo(within(PATIENCE));
    call.on("data", (reply) => {
      resolve(reply.list_services_response.service.map((each) => each.name).sort());
      call.end();
    });
    call.on("error", reject);
    call.write({ list_services: "" });
  });
}

// Four callers for some seconds: how many calls there were, and how those that failed did.
async function load() {
  let calls = 0;
  const failed = [];
  const end = Date.now() + 1000 * Number(seconds);
  const caller = async (number) => {
    while (Date.now() < end) {
      calls += 1;
      const [code, error] = await command(`${entity}-${number}`, { events: ["l"] }).ended;
      if (code) failed.push(error.message);
    }
  };
  await Promise.all([0, 1, 2, 3].map(caller));
  return { calls, failed };
}

async function main() {
  const [, first] = await command(entity, { events: ["a", "b"] }).ended;
  const seen = {
    command: [first.meta.revision_number, first.state.value.toString()],
    refusal: await refusal(),
    deadline: await deadline(),
    cancel: await cancel(),
    metadata: [await withMetadata(15_000), await withMetadata(18_000)],
    subscribe: await stream(1, 2),
    resume: await stream(3, 1),
    health: await health(),
    services: await reflection(),
    load: await load(),
  };
  console.log(JSON.stringify(seen));
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
