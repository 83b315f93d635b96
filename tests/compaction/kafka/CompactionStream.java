import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Fills the compacted topics of a capture with Apache Kafka's own clients, the same records at each run.
 *
 *   CompactionStream BOOTSTRAP create
 *   CompactionStream BOOTSTRAP produce ROUND BATCHES    producer ids go on only within a process; each round is another
 *   CompactionStream BOOTSTRAP clean RATIO              sets min.cleanable.dirty.ratio of every topic
 *   CompactionStream BOOTSTRAP dump TOPIC               prints every record: offset, time, key, value, headers, in hex
 *
 * With CORELANE_STREAM=common it is what any broker without transactions takes, whose segments end by time.
 */
public final class CompactionStream {
    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    /** Timestamps are the stream's own, so that segments end by time in the same places. */
    private static final long EPOCH_MS = 1_700_000_000_000L;
    private static final boolean IS_COMMON = "common".equals(System.getenv("CORELANE_STREAM"));
    private static final String SECOND = "1000";
    private static final String DAY = "86400000";

    private final String bootstrap;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private Random random;
    private long now;

    private CompactionStream(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        CompactionStream stream = new CompactionStream(arguments[0]);
        switch (arguments[1]) {
            case "create" -> stream.create();
            case "produce" -> stream.produce(Integer.parseInt(arguments[2]), Integer.parseInt(arguments[3]));
            case "clean" -> stream.clean(arguments[2]);
            case "dump" -> stream.dump(arguments[2]);
            default -> throw new IllegalArgumentException(arguments[1]);
        }
    }

    private Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    /** Each topic with what differs from the others. */
    private static Map<String, Map<String, String>> topics() {
        Map<String, Map<String, String>> topics = new HashMap<>();
        topics.put("plain", Map.of("delete.retention.ms", SECOND));
        topics.put("idempotent", Map.of("delete.retention.ms", DAY));
        topics.put("stamped", Map.of("delete.retention.ms", SECOND, "message.timestamp.type", "LogAppendTime"));
        topics.put("aged", Map.of("delete.retention.ms", SECOND, "segment.ms", "20000"));
        topics.put("ends", Map.of("delete.retention.ms", SECOND, "segment.ms", "20000"));
        if (!IS_COMMON) {
            topics.put("transactions", Map.of("delete.retention.ms", SECOND));
        }
        return topics;
    }

    private void create() throws Exception {
        List<NewTopic> topics = new ArrayList<>();
        topics().forEach((name, own) -> {
            Map<String, String> configs = new HashMap<>(own);
            configs.put("cleanup.policy", "compact");
            // No ratio is above one: nothing is cleaned until `clean` says so.
            configs.put("min.cleanable.dirty.ratio", "1");
            if (IS_COMMON) {
                configs.put("segment.ms", "20000");
            } else {
                configs.put("internal.segment.bytes", "4096");
            }
            topics.add(new NewTopic(name, 1, (short) 1).configs(configs));
        });
        try (Admin admin = admin()) {
            admin.createTopics(topics).all().get();
        }
    }

    private void clean(String ratio) throws Exception {
        Map<ConfigResource, java.util.Collection<AlterConfigOp>> changes = new HashMap<>();
        ConfigEntry entry = new ConfigEntry("min.cleanable.dirty.ratio", ratio);
        for (String topic : topics().keySet()) {
            changes.put(new ConfigResource(ConfigResource.Type.TOPIC, topic),
                List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET)));
        }
        try (Admin admin = admin()) {
            admin.incrementalAlterConfigs(changes).all().get();
        }
    }

    private void produce(int round, int batches) throws Exception {
        random = new Random(round);
        now = EPOCH_MS + round * 10_000_000L;
        for (int index = 0; index < batches; index++) {
            now += random.nextInt(3000);
            String codec = CODECS[random.nextInt(CODECS.length)];
            batch(producer("plain", codec), "plain");
            batch(producer("idempotent", codec), "idempotent");
            batch(producer(random.nextBoolean() ? "plain" : "idempotent", codec), "stamped");
            batch(producer("plain", codec), "aged");
            if (!IS_COMMON) {
                transaction(producer("transactional", codec));
            }
        }
        ends(round);
        for (KafkaProducer<byte[], byte[]> producer : producers.values()) {
            producer.close();
        }
    }

    /** One batch for certain: the producer waits for more until it is told not to. */
    private void batch(KafkaProducer<byte[], byte[]> producer, String topic) {
        int records = 1 + random.nextInt(12);
        boolean onlyTombstones = random.nextInt(12) == 0;
        for (int index = 0; index < records; index++) {
            send(producer, topic, "k" + random.nextInt(80), onlyTombstones || random.nextInt(8) == 0);
        }
        producer.flush();
    }

    private void send(KafkaProducer<byte[], byte[]> producer, String topic, String key, boolean isTombstone) {
        byte[] value = isTombstone ? null : bytes(random.nextInt(5) == 0 ? 0 : random.nextInt(60));
        List<Header> headers = new ArrayList<>();
        for (int index = random.nextInt(4) == 0 ? 2 : 0; index > 0; index--) {
            headers.add(new RecordHeader("h" + index, index == 1 ? null : bytes(random.nextInt(9))));
        }
        long timestamp = now - random.nextInt(1000);
        producer.send(new ProducerRecord<>(topic, 0, timestamp, key.getBytes(StandardCharsets.UTF_8), value, headers));
    }

    private byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        // Half of the bits, so that codecs find something.
        for (int index = 0; index < length; index++) {
            bytes[index] = (byte) (random.nextInt() & 0x55);
        }
        return bytes;
    }

    private void transaction(KafkaProducer<byte[], byte[]> producer) {
        producer.beginTransaction();
        for (int batches = 1 + random.nextInt(2); batches > 0; batches--) {
            batch(producer, "transactions");
        }
        if (random.nextInt(3) == 0) {
            producer.abortTransaction();
        } else {
            producer.commitTransaction();
        }
    }

    /** A segment that ends with tombstones, and one record after it. */
    private void ends(int round) {
        KafkaProducer<byte[], byte[]> producer = producer("plain", "lz4");
        for (boolean isTombstone : new boolean[] {false, true}) {
            for (int key = 0; key < 5; key++) {
                send(producer, "ends", "r" + round + "k" + key, isTombstone);
            }
            producer.flush();
        }
        now += 100_000;
        send(producer, "ends", "last" + round, false);
        producer.flush();
    }

    private void dump(String topic) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("key.deserializer", ByteArrayDeserializer.class);
        properties.put("value.deserializer", ByteArrayDeserializer.class);
        TopicPartition partition = new TopicPartition(topic, 0);
        HexFormat hex = HexFormat.of();
        StringBuilder out = new StringBuilder();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    out.append(record.offset()).append(' ').append(record.timestamp());
                    out.append(' ').append(hex.formatHex(record.key()));
                    out.append(' ').append(record.value() == null ? "-" : "=" + hex.formatHex(record.value()));
                    for (Header header : record.headers()) {
                        out.append(' ').append(header.key()).append(':');
                        out.append(header.value() == null ? "-" : "=" + hex.formatHex(header.value()));
                    }
                    out.append('\n');
                }
            }
        }
        System.out.print(out);
    }

    private KafkaProducer<byte[], byte[]> producer(String kind, String codec) {
        return producers.computeIfAbsent(kind + "-" + codec, name -> {
            Properties properties = new Properties();
            properties.put("bootstrap.servers", bootstrap);
            properties.put("client.id", name);
            properties.put("key.serializer", ByteArraySerializer.class);
            properties.put("value.serializer", ByteArraySerializer.class);
            properties.put("compression.type", codec);
            properties.put("linger.ms", "60000");
            properties.put("batch.size", "100000");
            properties.put("enable.idempotence", !kind.equals("plain"));
            if (kind.equals("transactional")) {
                properties.put("transactional.id", name);
            }
            KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties);
            if (kind.equals("transactional")) {
                producer.initTransactions();
            }
            return producer;
        });
    }
}
