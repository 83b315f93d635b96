//! The little of a consumer that the benchmarks need, blocking.

use std::error::Error;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelane::protocol::wire::Records;

use crate::client::{Client, answer_body, debug};

/// Version of Fetch that the consumers speak.
pub(crate) const FETCH_VERSION: i16 = 12;

/// The offset after the last of whole batches; none of none.
pub(crate) fn next_offset(mut records: &[u8]) -> Result<Option<i64>, Box<dyn Error>> {
    let mut next = None;
    // Base offset, length, ..., last offset delta: of each batch.
    while let (Some(base), Some(length)) = (records.first_chunk(), records.get(8..).and_then(|at| at.first_chunk())) {
        let end = 12 + usize::try_from(i32::from_be_bytes(*length))?;
        let delta = records.get(23..).and_then(|at| at.first_chunk()).ok_or("half a batch")?;
        next = Some(i64::from_be_bytes(*base) + i64::from(i32::from_be_bytes(*delta)) + 1);
        records = records.get(end..).ok_or("half a batch")?;
    }
    Ok(next)
}

/// Reads a partition from its beginning to its end, at most `answer_bytes` at once, the next request after each answer. Gives
/// the bytes of its batches.
pub(crate) fn read_partition(
    client: &mut Client,
    topic: &str,
    partition: i32,
    answer_bytes: i32,
) -> Result<u64, Box<dyn Error>> {
    let (mut offset, mut bytes) = (0, 0);
    loop {
        let wanted = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: answer_bytes,
            ..FetchPartition::default()
        };
        let request = FetchRequest {
            max_bytes: answer_bytes,
            topics: vec![FetchTopic { topic: topic.into(), partitions: vec![wanted], ..FetchTopic::default() }],
            ..FetchRequest::default()
        };
        let answer = client.ask(FETCH_VERSION, &request)?;
        let mut body = answer_body(&answer, ApiKey::Fetch, FETCH_VERSION)?;
        let response = FetchResponse::decode(&mut body, FETCH_VERSION).map_err(debug)?;
        let data = response.responses.first().and_then(|topic| topic.partitions.first()).ok_or("no answer about it")?;
        if data.error_code != 0 {
            return Err(format!("fetch of partition {partition} at {offset}: error {}", data.error_code).into());
        }
        let Records::Bytes(records) = data.records else { return Ok(bytes) };
        let Some(next) = next_offset(records)? else { return Ok(bytes) };
        (offset, bytes) = (next, bytes + u64::try_from(records.len())?);
    }
}
