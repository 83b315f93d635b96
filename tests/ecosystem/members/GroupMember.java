import java.io.IOException;
import java.io.OutputStream;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A group member of Apache Kafka's own client; README.md says what it prints. */
public final class GroupMember implements ConsumerRebalanceListener {
    private final String name;
    private final KafkaConsumer<String, String> consumer;
    private final OutputStream out = new FileOutputStream(FileDescriptor.out);
    private final Map<TopicPartition, OffsetAndMetadata> handled = new HashMap<>();
    private volatile boolean leaving = false;

    private GroupMember(String[] arguments) {
        name = arguments[3];
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("group.id", arguments[1]);
        properties.put("client.id", name);
        properties.put("key.deserializer", StringDeserializer.class);
        properties.put("value.deserializer", StringDeserializer.class);
        properties.put("enable.auto.commit", false);
        properties.put("auto.offset.reset", "earliest");
        if (arguments[4].equals("consumer")) {
            // Session and heartbeat are the broker's to say.
            properties.put("group.protocol", "consumer");
        } else {
            boolean eager = arguments[4].equals("range");
            properties.put("session.timeout.ms", arguments[5]);
            properties.put("heartbeat.interval.ms", "500");
            properties.put("partition.assignment.strategy",
                eager ? RangeAssignor.class.getName() : CooperativeStickyAssignor.class.getName());
        }
        consumer = new KafkaConsumer<>(properties);
    }

    public static void main(String[] arguments) {
        GroupMember member = new GroupMember(arguments);
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            member.leaving = true;
            member.consumer.wakeup();
            try {
                main.join();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }));
        member.run(arguments[2]);
    }

    private void run(String topic) {
        try {
            consumer.subscribe(List.of(topic), this);
            while (!leaving) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    say("record " + record.partition() + " " + record.offset() + " " + record.value());
                    handled.put(new TopicPartition(record.topic(), record.partition()),
                        new OffsetAndMetadata(record.offset() + 1));
                }
                commit();
            }
        } catch (WakeupException e) {
            // From the shutdown hook.
        }
        commit();
        consumer.close();
        say("closed");
    }

    private void commit() {
        while (!handled.isEmpty()) {
            try {
                Map<TopicPartition, OffsetAndMetadata> offsets = Map.copyOf(handled);
                consumer.commitSync(offsets);
                offsets.forEach((partition, offset) -> say("committed " + partition.partition() + " " + offset.offset()));
                handled.clear();
            } catch (WakeupException | TimeoutException e) {
                // Again: it must be known before the next poll whether the offsets stand.
                say("trouble commit: " + e);
            } catch (RebalanceInProgressException e) {
                // Kept: the next poll carries the rebalance on, and what is still owned is committed then.
                say("trouble commit: " + e);
                return;
            } catch (CommitFailedException e) {
                say("trouble commit: " + e);
                handled.clear();
            }
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commit();
        if (!partitions.isEmpty()) {
            say("revoked " + listed(partitions));
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        say("assigned " + listed(consumer.assignment()));
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        handled.keySet().removeAll(partitions);
        say("lost " + listed(partitions));
    }

    private static String listed(Collection<TopicPartition> partitions) {
        String list = partitions.stream().map(TopicPartition::partition).collect(Collectors.toCollection(TreeSet::new))
            .stream().map(String::valueOf).collect(Collectors.joining(","));
        return list.isEmpty() ? "-" : list;
    }

    private void say(String event) {
        try {
            out.write((name + " " + event.replace('\n', ' ') + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            // Nobody listens any more.
            Runtime.getRuntime().halt(1);
        }
    }
}
