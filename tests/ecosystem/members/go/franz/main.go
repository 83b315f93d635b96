// A group member of franz-go; ../../README.md says what it prints.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type member struct {
	name, topic string
	owned       map[int32]bool
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

func (m *member) assigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	for _, partition := range added[m.topic] {
		m.owned[partition] = true
	}
	var all []int32
	for partition := range m.owned {
		all = append(all, partition)
	}
	m.say("assigned %s", listed(all))
}

// Rebalances are blocked between a poll and the commit of what it gave: nothing is left to commit here.
func (m *member) removed(word string) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
		for _, partition := range gone[m.topic] {
			delete(m.owned, partition)
		}
		if len(gone[m.topic]) > 0 {
			m.say("%s %s", word, listed(gone[m.topic]))
		}
	}
}

func main() {
	bootstrap, group, topic, name, protocol := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	sessionMs, err := strconv.Atoi(os.Args[6])
	if err != nil {
		panic(err)
	}
	m := &member{name: name, topic: topic, owned: map[int32]bool{}}
	balancer := kgo.RangeBalancer()
	if protocol == "cooperative" {
		balancer = kgo.CooperativeStickyBalancer()
	} else if protocol != "range" {
		panic("franz-go is not run with " + protocol)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ClientID(name),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.Balancers(balancer),
		kgo.SessionTimeout(time.Duration(sessionMs)*time.Millisecond),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(m.assigned),
		kgo.OnPartitionsRevoked(m.removed("revoked")),
		kgo.OnPartitionsLost(m.removed("lost")),
		kgo.FetchMaxWait(200*time.Millisecond),
		kgo.RetryTimeout(60*time.Second),
	)
	if err != nil {
		panic(err)
	}
	leaving, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for leaving.Err() == nil {
		fetches := client.PollFetches(leaving)
		fetches.EachError(func(_ string, partition int32, err error) {
			if leaving.Err() == nil {
				m.say("trouble fetch of %d: %v", partition, err)
			}
		})
		next := map[int32]*kgo.Record{}
		fetches.EachRecord(func(record *kgo.Record) {
			m.say("record %d %d %s", record.Partition, record.Offset, record.Value)
			next[record.Partition] = record
		})
		if len(next) > 0 {
			m.commit(client, next)
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	m.say("closed")
}

func (m *member) commit(client *kgo.Client, next map[int32]*kgo.Record) {
	var records []*kgo.Record
	for _, record := range next {
		records = append(records, record)
	}
	if err := client.CommitRecords(context.Background(), records...); err != nil {
		m.say("trouble commit: %v", err)
		return
	}
	for partition, record := range next {
		m.say("committed %d %d", partition, record.Offset+1)
	}
}
