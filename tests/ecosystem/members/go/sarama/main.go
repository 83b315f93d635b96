// A group member of sarama; ../../README.md says what it prints.
//
// sarama's commit tells nobody whether it went well, so no `committed` is printed: the driver asks the broker instead.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"
)

type member struct {
	name, topic string
}

func (m *member) say(format string, values ...any) {
	event := strings.ReplaceAll(fmt.Sprintf(format, values...), "\n", " ")
	os.Stdout.WriteString(m.name + " " + event + "\n")
}

func listed(partitions []int32) string {
	if len(partitions) == 0 {
		return "-"
	}
	sort.Slice(partitions, func(a, b int) bool { return partitions[a] < partitions[b] })
	texts := make([]string, len(partitions))
	for i, partition := range partitions {
		texts[i] = strconv.Itoa(int(partition))
	}
	return strings.Join(texts, ",")
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.say("assigned %s", listed(session.Claims()[m.topic]))
	return nil
}

func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	if partitions := session.Claims()[m.topic]; len(partitions) > 0 {
		m.say("revoked %s", listed(partitions))
	}
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			m.say("record %d %d %s", message.Partition, message.Offset, message.Value)
			session.MarkMessage(message, "")
			// A commit may wait behind a fetch on the same connection: one for all that is there.
			if len(claim.Messages()) == 0 {
				session.Commit()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func main() {
	bootstrap, group, topic, name, protocol := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	sessionMs, err := strconv.Atoi(os.Args[6])
	if err != nil {
		panic(err)
	}
	if protocol != "range" {
		panic("sarama knows eager groups only")
	}
	m := &member{name: name, topic: topic}
	config := sarama.NewConfig()
	config.ClientID = name
	config.Version = sarama.MaxVersion
	config.Consumer.Group.Session.Timeout = time.Duration(sessionMs) * time.Millisecond
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	config.Consumer.Return.Errors = true
	// Long enough for a restart of the broker.
	config.Metadata.Retry.Max = 100
	consumer, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config)
	if err != nil {
		panic(err)
	}
	go func() {
		for err := range consumer.Errors() {
			m.say("trouble %v", err)
		}
	}()
	leaving, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for leaving.Err() == nil {
		err := consumer.Consume(leaving, []string{topic}, m)
		if errors.Is(err, sarama.ErrClosedConsumerGroup) {
			break
		}
		if err != nil {
			m.say("trouble consume: %v", err)
			time.Sleep(200 * time.Millisecond)
		}
	}
	if err := consumer.Close(); err != nil {
		m.say("trouble close: %v", err)
	}
	m.say("closed")
}
