// A group member of kafkajs; README.md says what it prints.
"use strict";

const fs = require("fs");
const { Kafka, PartitionAssigners, logLevel } = require("kafkajs");

const [bootstrap, group, topic, name, protocol, sessionMs] = process.argv.slice(2);
if (protocol !== "range") throw new Error("kafkajs knows eager groups only");

function say(event) {
  fs.writeSync(1, `${name} ${event.replaceAll("\n", " ")}\n`);
}

const kafka = new Kafka({
  clientId: name,
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 100 },
});
const consumer = kafka.consumer({
  groupId: group,
  sessionTimeout: Number(sessionMs),
  rebalanceTimeout: 30000,
  heartbeatInterval: 500,
  partitionAssigners: [PartitionAssigners.roundRobin],
  maxWaitTimeInMs: 200,
});
let owned = [];

// A rebalance begins between two batches, and each batch is committed before it ends: nothing is left to commit here.
consumer.on(consumer.events.REBALANCING, () => {
  if (owned.length) say(`revoked ${owned.join(",")}`);
  owned = [];
});
consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  owned = (payload.memberAssignment[topic] || []).slice().sort((a, b) => a - b);
  say(`assigned ${owned.join(",") || "-"}`);
});
consumer.on(consumer.events.CRASH, ({ payload }) => say(`trouble crash, restart ${payload.restart}: ${payload.error}`));

async function handle({ batch, resolveOffset }) {
  let next;
  for (const message of batch.messages) {
    say(`record ${batch.partition} ${message.offset} ${message.value}`);
    resolveOffset(message.offset);
    next = String(BigInt(message.offset) + 1n);
  }
  if (next !== undefined) {
    await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }]);
    say(`committed ${batch.partition} ${next}`);
  }
}

async function main() {
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  process.once("SIGTERM", async () => {
    await consumer.disconnect();
    say("closed");
    process.exit(0);
  });
  await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: handle });
}

main().catch((error) => {
  say(`trouble fatal: ${error.stack}`);
  process.exit(1);
});
