//! Answers: those waiting to be sent, and those remembered for when their request comes again.
//!
//! wire.md §3: a repeated request with the same (SA, epoch, transaction) gets the same answer and
//! has no second effect. Of a listing, its records are remembered as they were when first asked
//! for: pages of two moments under one transaction would make a listing that never was, with a
//! member lost where the pages' boundaries moved. Where records need more room than there is, the
//! oldest listing goes, and its request is refused when it comes again; that it came is still
//! known.
//!
//! §6, rule 9: transactions ascend within an epoch. So of what was forgotten the highest
//! transaction is enough to tell a request that was answered long ago from a new one: nothing is
//! done twice because its answer is remembered no longer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::wire::{
    Address, Envelope, Epoch, Header, Key, Link, MeetingSummary, Message, Opcode, Record, Status, TakeoverResult,
    TerminalState, Transaction, encode_message, encode_page,
};

/// Requests whose answers are remembered.
pub(super) const REMEMBERED_MAX: usize = 8192;
/// Senders and epochs of which it is known how far they were forgotten.
const FORGOTTEN_MAX: usize = 64;
/// Records of listings that are remembered, over all requests.
const RECORDS_MAX: usize = 1 << 18;
/// Answers that wait to be sent.
const WAITING_MAX: usize = 1 << 14;

/// What tells one request from another; of a request of several pages, one page from another too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Request {
    pub from: Address,
    pub epoch: Epoch,
    pub transaction: Transaction,
    pub page: u16,
}

/// The pages of a listing, cut where they were cut the first time.
#[derive(Debug)]
pub(super) struct Pages<R> {
    records: Vec<R>,
    pages: Vec<Range<usize>>,
}

impl<R: Record + Copy> Pages<R> {
    /// Cuts records into as few pages as hold them, by trying each on a page's worth of bytes.
    pub fn new(records: Vec<R>) -> Self {
        const PAGE: usize = 1008;
        let mut room = [0; PAGE];
        let (mut pages, mut begin, mut used) = (Vec::new(), 0, 0);
        for (at, record) in records.iter().enumerate() {
            match record.write(&mut room[used..]) {
                Some(bytes) => used += bytes,
                None => {
                    pages.push(begin..at);
                    begin = at;
                    used = record.write(&mut room).expect("one record of any length fits a page");
                }
            }
        }
        pages.push(begin..records.len());
        Self { records, pages }
    }

    fn encode(
        &self,
        number: usize,
        buffer: &mut [u8],
        to: &Envelope,
        opcode: Opcode,
        head: &Header,
        key: &Key,
    ) -> usize {
        let records = &self.records[self.pages[number].clone()];
        let pages = (number as u16, self.pages.len() as u16);
        encode_page(buffer, to, opcode, head, pages, records.iter().copied(), key).0
    }
}

/// What is answered, apart from to whom.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Message(Message),
    Info(Arc<Pages<MeetingSummary>>),
    State(Arc<Pages<TerminalState>>),
    /// The results of one page of a takeover, under that page's number and count.
    Results((u16, u16), Arc<[TakeoverResult]>),
    Topology(Arc<Pages<Link>>),
}

impl Content {
    fn pages(&self) -> usize {
        match self {
            Self::Message(_) | Self::Results(..) => 1,
            Self::Info(pages) => pages.pages.len(),
            Self::State(pages) => pages.pages.len(),
            Self::Topology(pages) => pages.pages.len(),
        }
    }

    fn records(&self) -> usize {
        match self {
            Self::Message(_) => 0,
            Self::Info(pages) => pages.records.len(),
            Self::State(pages) => pages.records.len(),
            Self::Results(_, results) => results.len(),
            Self::Topology(pages) => pages.records.len(),
        }
    }

    fn encode(&self, page: usize, buffer: &mut [u8], to: &Envelope, head: &Header, key: &Key) -> usize {
        match self {
            Self::Message(message) => encode_message(buffer, to, head, message, key),
            Self::Info(pages) => pages.encode(page, buffer, to, Opcode::Info, head, key),
            Self::State(pages) => pages.encode(page, buffer, to, Opcode::State, head, key),
            Self::Results(number, results) => {
                let results = results.iter().copied();
                encode_page(buffer, to, Opcode::TakeoverBatchAck, head, *number, results, key).0
            }
            Self::Topology(pages) => pages.encode(page, buffer, to, Opcode::Topology, head, key),
        }
    }
}

/// An answer, as its request is answered whenever it comes.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub head: Header,
    pub content: Content,
}

struct Waiting {
    to: Envelope,
    answer: Answer,
    page: usize,
}

/// All answers of a domain.
pub(super) struct Answers {
    remembered: HashMap<Request, (Opcode, Answer)>,
    order: VecDeque<Request>,
    /// The requests among them that have records, in their order.
    listings: VecDeque<Request>,
    records: usize,
    /// The highest transaction that was forgotten.
    forgotten: BTreeMap<(Epoch, Address), Transaction>,
    waiting: VecDeque<Waiting>,
}

impl Answers {
    pub fn new() -> Self {
        Self {
            remembered: HashMap::new(),
            order: VecDeque::new(),
            listings: VecDeque::new(),
            records: 0,
            forgotten: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The answer that this request got, and the opcode that it bore.
    pub fn remembered(&self, request: &Request) -> Option<&(Opcode, Answer)> {
        self.remembered.get(request)
    }

    /// Whether a request that is not remembered may have been answered before: it is no later than
    /// one that was forgotten.
    pub fn is_bygone(&self, request: &Request) -> bool {
        let forgotten = self.forgotten.get(&(request.epoch, request.from));
        forgotten.is_some_and(|&forgotten| !request.transaction.is_after(forgotten))
    }

    /// Keeps an answer; the oldest ones make room.
    pub fn remember(&mut self, request: Request, opcode: Opcode, answer: Answer) {
        let records = answer.content.records();
        self.remembered.insert(request, (opcode, answer));
        self.order.push_back(request);
        if records > 0 {
            self.records += records;
            self.listings.push_back(request);
        }
        while self.records > RECORDS_MAX && self.listings.len() > 1 {
            self.forget_listing();
        }
        if self.order.len() > REMEMBERED_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else { return };
        if self.listings.front() == Some(&oldest) {
            self.listings.pop_front();
        }
        let (_, answer) = self.remembered.remove(&oldest).expect("what is in the order is remembered");
        self.records -= answer.content.records();
        let forgotten = self.forgotten.entry((oldest.epoch, oldest.from)).or_insert(oldest.transaction);
        if oldest.transaction.is_after(*forgotten) {
            *forgotten = oldest.transaction;
        }
        // An epoch that is over is refused for that.
        if self.forgotten.len() > FORGOTTEN_MAX {
            self.forgotten.pop_first();
        }
    }

    fn forget_listing(&mut self) {
        let Some((opcode, answer)) = self.listings.pop_front().and_then(|oldest| self.remembered.get_mut(&oldest))
        else {
            return;
        };
        self.records -= answer.content.records();
        let (opcode, status) = (opcode.answer().unwrap_or(*opcode).wire(), Status::Malformed);
        answer.head.status = status.wire();
        answer.content = Content::Message(Message::Refused { opcode, status, value: 0 });
    }

    /// An answer waits to be sent; false where too many do.
    pub fn send(&mut self, to: Envelope, answer: Answer) -> bool {
        let room = self.waiting.len() < WAITING_MAX;
        if room {
            self.waiting.push_back(Waiting { to, answer, page: 0 });
        }
        room
    }

    /// Whether one waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next frame of those that wait.
    pub fn poll_transmit(&mut self, buffer: &mut [u8], key: &Key) -> Option<usize> {
        let first = self.waiting.front_mut()?;
        let length = first.answer.content.encode(first.page, buffer, &first.to, &first.answer.head, key);
        first.page += 1;
        if first.page >= first.answer.content.pages() {
            self.waiting.pop_front();
            if self.waiting.is_empty() {
                // From the front again: a queue that goes round all its room touches memory that no
                // cache has.
                self.waiting.clear();
            }
        }
        Some(length)
    }

    /// As after a restart: all is forgotten, and nothing waits.
    pub fn forget(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MeetingId, MeetingState, Status};

    fn results(count: u64) -> Vec<TakeoverResult> {
        let one = |id| TakeoverResult {
            meeting: MeetingId(id),
            status: Status::Ok,
            state: MeetingState::InMeeting,
            participants: 1,
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn pages_are_cut_where_a_record_no_longer_fits() {
        let lengths = |count| Pages::new(results(count)).pages.iter().map(Range::len).collect::<Vec<_>>();
        assert_eq!(lengths(0), [0]);
        assert_eq!(lengths(63), [63]);
        assert_eq!(lengths(64), [63, 1]);
    }

    #[test]
    fn memory_of_answers_is_bounded_by_requests_and_by_records() {
        let mut answers = Answers::new();
        let listing: Arc<[TakeoverResult]> = results(1000).into();
        for number in 0..10_000 {
            let request =
                Request { from: Address::default(), epoch: Epoch(1), transaction: Transaction(number), page: 0 };
            let content = Content::Results((0, 1), listing.clone());
            answers.remember(request, Opcode::TakeoverBatch, Answer { head: Header::default(), content });
            assert!(answers.remembered(&request).is_some());
            assert!(answers.order.len() <= REMEMBERED_MAX && answers.records <= RECORDS_MAX);
            assert_eq!(answers.order.len(), answers.remembered.len());
        }
        assert_eq!(answers.order.len(), REMEMBERED_MAX, "listings make room for listings, and not for requests");
        let of =
            |number| Request { from: Address::default(), epoch: Epoch(1), transaction: Transaction(number), page: 0 };
        let refused = |number| {
            let (_, answer) = answers.remembered(&of(number)).unwrap();
            matches!(answer.content, Content::Message(Message::Refused { status: Status::Malformed, .. }))
        };
        assert!(refused(10_000 - REMEMBERED_MAX as u32) && !refused(9_999));
        assert!(answers.is_bygone(&of(0)) && answers.is_bygone(&of(10_000 - REMEMBERED_MAX as u32 - 1)));
        assert!(!answers.is_bygone(&of(10_000)));
        assert!(!answers.is_bygone(&Request { epoch: Epoch(2), ..of(0) }), "another epoch counts anew");
    }
}
