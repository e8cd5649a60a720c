//! Every bound, with the assertion that carries its proof.
//!
//! A loop, queue or table in Baton ends somewhere, and where it ends is written here.

/// Records that a walk over the table has asked the memory for before it reads the first of them.
pub const WALK_AHEAD: usize = 16;

/// Frames of a burst that a worker goes on with while what the memory was asked for one of them
/// arrives.
pub const FETCH_AHEAD: usize = 8;
const _: () = assert!(2 * FETCH_AHEAD < BURST);

/// Frames that a worker takes from a ring at a time.
pub const BURST: usize = 64;

/// Bytes of a UMEM chunk. A V2V frame is at most 1,092 bytes with tag and label, so half a page
/// carries one and its headroom; the kernel refuses chunks below 2,048.
pub const CHUNK_BYTES: usize = 2048;

/// Bytes of a UMEM chunk that the driver fills itself. What is left of it behind the headroom, a
/// driver may tell its device in whole KiB (igb: BSIZEPKT of SRRCTL): of 2,048 that would be one,
/// and a frame with a data payload is longer.
pub const CHUNK_ZERO_COPY_BYTES: usize = 4096;
const _: () =
    assert!((CHUNK_ZERO_COPY_BYTES - 256) / 1024 * 1024 >= FRAME_BYTES_MAX && CHUNK_BYTES <= CHUNK_ZERO_COPY_BYTES);

/// The longest V2V frame: Ethernet 14, 802.1Q 4, addresses and reserved 18, label 4, data payload
/// 1,056.
pub const FRAME_BYTES_MAX: usize = 14 + 4 + 18 + 4 + 1056;
const _: () = assert!(FRAME_BYTES_MAX + 256 + 32 <= CHUNK_BYTES, "a frame, XDP headroom and metadata fit a chunk");

/// Meetings in a table when nobody says otherwise.
pub const MEETINGS_DEFAULT: u32 = 65_536;
/// Terminals in a table when nobody says otherwise.
pub const TERMINALS_DEFAULT: u32 = 262_144;
/// The most meetings (parts) or terminals that a table can be created for: slot numbers are 32
/// bits, the top ones reserved.
pub const SLOTS_MAX: u32 = 1 << 30;

/// Bytes of additional information of a terminal, at most.
pub const INFO_BYTES_MAX: usize = 64;
/// Bytes of additional information that fit a REPORT and a terminal's slot itself.
pub const INFO_BYTES_SHORT: usize = 6;

/// Members of one conference over all its domains.
pub const MEMBERS_MAX: usize = 8192;
const _: () = assert!(MEMBERS_MAX <= u16::MAX as usize, "participants is a u16 on the wire");
/// Domains that one conference may span.
pub const PARTS_MAX: usize = 256;
/// Autonomous domains that a configuration may name.
pub const DOMAINS_MAX: usize = 1024;
/// Domains without an autonomous server of their own that are behind others, all together.
pub const DOMAINS_BEHIND_MAX: usize = 65_536;
/// MAC addresses that are tried in turn for a domain whose link is not up: the one that answered
/// last and those heard since. More than two, for whoever repeats old frames may do so from
/// several.
pub const HOPS_TRIED: usize = 4;
const _: () = assert!(HOPS_TRIED > 2);
/// Pages of a STATE answer for one meeting: 24-byte minimum records never exist, 32 is the least,
/// so 31 a page.
pub const STATE_PAGES_MAX: usize = 1024;
const _: () = assert!(STATE_PAGES_MAX * 10 >= MEMBERS_MAX, "ten terminals of the longest information fit a page");

/// Interfaces of a dispatch server, at most.
pub const INTERFACES_MAX: usize = 8;
/// Worker threads of an engine, at most; owner numbers in the table are 8 bits.
pub const WORKERS_MAX: usize = 64;

/// Control frames in flight from workers to the control thread.
pub const CONTROL_QUEUE: usize = 8192;
/// Control frames waiting for a worker to send them.
pub const OUTBOX_QUEUE: usize = 1024;
/// Client requests waiting for the control thread.
pub const REQUEST_QUEUE: usize = 1024;
/// Commands to autonomous servers that are on their way at once.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 4096;
/// Commands outstanding at one autonomous server, so that a thousand conferences started at once do
/// not overrun its ring.
pub const COMMANDS_WINDOW: u16 = 256;
/// Requests whose answers an autonomous server remembers at least (wire.md, rule 9).
pub const TRANSACTIONS_REMEMBERED: u32 = 8192;
const _: () = assert!(
    2 * TAKEOVER_WINDOW_MAX as u32 + 4 * STATE_QUERIES_MAX as u32 + 2 * COMMANDS_WINDOW as u32
        <= TRANSACTIONS_REMEMBERED,
    "what is outstanding is remembered"
);

/// Microseconds for which the kernel runs the driver for a worker that found its ring empty and
/// polls busily: one look, no wait.
pub const BUSY_POLL_US: u32 = 1;
/// V2V frames that a MAC address may send at once where its rate is bounded; more, where that is a
/// tenth of a second's.
pub const SOURCE_BURST_MIN: u32 = 64;
/// How often the keeper tells the engine what became of the frames that steering saw.
pub const STEERED_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// How often the keeper looks whether the interfaces are what they were.
pub const INTERFACES_CHECKED: std::time::Duration = std::time::Duration::from_millis(500);
const _: () =
    assert!(INTERFACES_CHECKED.as_nanos() < STEERED_INTERVAL.as_nanos(), "once at each time that it wakes up");
/// Frames that a call hands to the interface at most, where the kernel lets that be said.
pub const SEND_BUDGET: u32 = 4 * BURST as u32;

/// Transmit chunks that a socket leaves with the kernel, sent or not, before it looks which are
/// sent.
pub const UNCOLLECTED_MAX: usize = 4 * BURST;
/// Bytes of a thread's stack, all of which a standby has in its place: it is taken apart at its
/// death.
pub const STACK_BYTES: usize = 512 << 10;

/// Heap that a standby holds ready beyond what it uses, in bytes: what it allocates between its
/// predecessor's death and the first answers, so that nothing of it is a page fault.
pub const STANDBY_HEAP_BYTES: usize = 16 << 20;

/// Generations that the database reserves at a time, of the 65,536 that a term has. Half of a block
/// is there for take-overs of which none lives for long enough to reserve the next one.
pub const GENERATION_BLOCK: u16 = 1024;
/// How far above its own term an epoch may be that a server is given control over. An autonomous
/// server can name any.
pub const TERMS_PASSED_MAX: u32 = 65_536;

/// Nanoseconds that an acknowledgement may wait for company before it is sent. wire.md: "at most 1
/// ms later".
pub const ACK_DELAY_NS: u64 = 500_000;

/// TAKEOVER_BATCH pages outstanding at one autonomous server, at most.
pub const TAKEOVER_WINDOW_MAX: u16 = 256;
/// TAKEOVER_BATCH pages outstanding before the autonomous server said how many it takes.
pub const TAKEOVER_WINDOW_FIRST: u16 = 8;
/// STATE_QUERY requests outstanding at one autonomous server, at most.
pub const STATE_QUERIES_MAX: u16 = 256;
/// Meetings that a report names of each kind; it counts the others.
pub const REPORT_NAMES_MAX: usize = 1000;
/// Connections of clients at once. When all are taken, the one that has been idle longest makes
/// room; further ones wait in the kernel's backlog while every one of them has a request under way.
pub const CONNECTIONS_MAX: usize = 512;
/// Bytes of a Unix socket's path: `sun_path` of unix(7) has 108, of which the last ends it.
pub const SOCKET_BYTES_MAX: usize = 107;
/// How long a connection of a client may have no request under way, from its beginning or its last
/// answer.
pub const IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(30);
/// How long the body of a request may take: it comes from a process of the same machine.
pub const BODY_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// How long no connection is accepted after that has failed, as it does where there are no
/// descriptors.
pub const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// Bytes of a request's body: the largest conference with every member written out.
pub const BODY_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(BODY_BYTES_MAX >= MEMBERS_MAX * 96, "a member is written in fewer than 96 bytes");
/// Bytes of a conference's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Ids of ended conferences that the database remembers.
pub const ENDED_KEPT: u64 = 65_536;
/// Commits that one flush of the database carries.
pub const COMMIT_GROUP: usize = 1024;
/// Jobs waiting for the database: every operation under way has at most one.
pub const DATABASE_QUEUE: usize = OPERATIONS_MAX + 64;
/// Operations on conferences under way at once, those that wait for their turn included.
pub const OPERATIONS_MAX: usize = 2048;
const _: () = assert!(REQUEST_QUEUE <= OPERATIONS_MAX, "what waits for the control thread can be taken on");
/// Times that a request of recovery is sent before it is said that nothing usable is answered. It
/// is sent further.
pub const ATTEMPTS_SAID_AFTER: u32 = 10;
/// Answers to a takeover page that speak of nothing that was asked, before the page's meetings are
/// taken for refused.
pub const NONSENSE_MAX: u32 = 3;
/// Orphans of a domain that are noted, told and shown; further ones are counted.
pub const ORPHANS_MAX: usize = 16_384;
/// Listed meetings of a domain that wait for the database to say what they are; further ones are
/// listed again then.
pub const UNDECIDED_MAX: usize = 4_096;
/// Records of one listing: what goes on beyond has no end.
pub const LISTED_MAX: u32 = 1 << 22;
/// Times that REPLAY_DONE is asked again because what it is about changed meanwhile, before the
/// last answer counts.
pub const AUDIT_CHASES_MAX: u32 = 6;
/// The longest pause before a meeting is asked for again that an autonomous server has refused, and
/// before a domain is listed again whose number of meetings differs.
pub const REFUSED_PAUSE_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// Between two questions about meetings of a domain whose terminals report what the table does not
/// have.
pub const STRAYS_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// Times that REPLAY_DONE is sent before an autonomous server's silence is an alarm.
pub const AUDIT_SILENCE_ATTEMPTS: u32 = 5;

/// Engines that a keeper starts one after the other without a pause though none of them came to
/// control anything.
pub const RESTARTS_FREE: u32 = 5;
/// The longest pause, in milliseconds, between two starts of an engine that does not come to
/// control anything.
pub const RESTART_PAUSE_MS_MAX: u64 = 10_000;
/// How long an engine's threads may stand still before its keeper kills it, unless the
/// configuration says otherwise.
pub const HANG_DEFAULT: std::time::Duration = std::time::Duration::from_secs(1);
/// The least that may be configured: a healthy thread that has nothing to do moves twice in it.
pub const HANG_MS_MIN: u64 = 500;
/// Looks that a keeper takes at its engine's pulse in that time.
pub const HANG_LOOKS: u32 = 8;
/// The longest that the control thread sleeps. Workers sleep for less (`link::thread`).
pub const CONTROL_SLEEP_MAX: std::time::Duration = std::time::Duration::from_millis(250);
const _: () = assert!(CONTROL_SLEEP_MAX.as_millis() as u64 * 2 <= HANG_MS_MIN);
/// A new engine that does not control yet may stand still for so many times what one that controls
/// may: it maps what there is, and makes its threads. Twice as long for each that came to nothing
/// before it, up to
/// [`START_PATIENCE_MAX`]: a machine that is slow gets there in the end.
pub const START_PATIENCE: u32 = 5;
/// See [`START_PATIENCE`].
pub const START_PATIENCE_MAX: std::time::Duration = std::time::Duration::from_secs(120);
/// Notices of one engine that a keeper heeds before it sees to its other duties.
pub const NOTICES_PER_ROUND: u32 = 64;
/// Next hops that an engine tells its keeper in a second, at most: of every domain at once, and
/// again.
pub const NEXT_HOPS_PER_SECOND: u32 = 2 * DOMAINS_MAX as u32;
/// Notices in a second after which an engine is not what it should be, and is killed: twice what
/// one tells that is, for what it told while the keeper was not let run comes at once.
pub const NOTICES_PER_SECOND: u32 = 2 * NEXT_HOPS_PER_SECOND;
/// Notices of an engine that make no sense, after which it is killed.
pub const NOTICES_NONSENSE_MAX: u32 = 8;
/// Orders that wait for a control thread; a keeper whose further ones find no room goes on.
pub const ORDERS_MAX: usize = 64;
/// Engines in a row that came to nothing by themselves, after which all that they can have damaged
/// is made anew.
pub const RENEW_AFTER: u32 = 3;
const _: () = assert!(RENEW_AFTER < RESTARTS_FREE, "before the pauses begin");
/// Bytes of a line of the log that are written at once: what a pipe that has room takes without
/// waiting (PIPE_BUF).
pub const LOG_WRITE_BYTES: usize = 4096;
/// Bytes of a manifest: the whole configuration, the most domains with all their keys.
pub const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Milliseconds that a new keeper waits for the processes of a dead one to be gone.
pub const PREDECESSOR_WAIT_MS: u64 = 10_000;
/// Commands that wait for room in their lane, at most, before a further operation is begun.
pub const COMMANDS_WAITING_MAX: usize = 65_536;
const _: () = assert!(COMMANDS_WAITING_MAX >= 2 * (MEMBERS_MAX + PARTS_MAX), "the largest conference can be started");
/// Ids of others' conferences that are passed over when one is chosen.
pub const TAKEN_IDS_MAX: usize = 1 << 16;
/// Commands that were given up unanswered and whose late answers are still understood.
pub const COMMANDS_GIVEN_UP_MAX: usize = 8192;
/// Operations without a client that are under way at once: those that a death cut short, and those
/// that go on after their client was told to wait no longer.
pub const OPERATIONS_BACKGROUND_MAX: usize = 512;
/// The highest id of a meeting that a client may choose: what a JSON number holds exactly in every
/// language.
pub const MEETING_ID_MAX: u64 = (1 << 53) - 1;

/// Bytes of additional information that a terminal's slot in the table holds itself; longer takes
/// an extent.
pub const INFO_BYTES_INLINE: usize = 16;
const _: () = assert!(INFO_BYTES_SHORT <= INFO_BYTES_INLINE, "a REPORT never needs an extent");
/// One extent for so many terminals: how many may have additional information that is longer than a
/// slot holds.
pub const TERMINALS_PER_EXTENT: u32 = 10;
const _: () =
    assert!(TERMINALS_PER_EXTENT > 1, "an extent is as long as a terminal's slot: more of them cost as much again");
/// Extents that a table has at least.
pub const EXTENTS_MIN: u32 = 64;
/// Extents that a writer looks at for a free one before it says that there is none.
pub const EXTENT_PROBES_MAX: u32 = 4096;
/// What workers found wrong with the table and the control thread has not yet looked at.
pub const TROUBLES_MAX: usize = 64;
/// Terminals without room for their additional information that are named in the log; further ones
/// are counted.
pub const FULL_NAMED_MAX: usize = 32;
/// Of a table's terminals the part (one in so many) that is for domains which have less than their
/// share.
pub const QUOTA_LAST_PART: u32 = 8;
/// Terminals that lists bring into a table between two looks at how much room there is.
pub const QUOTA_RECOUNT_EVERY: u32 = 1024;
/// Slots that are read for what each domain has, for each terminal that a list brings in where room
/// runs short.
pub const QUOTA_SLOTS: u32 = 256;
/// Threads that may write to a table: the control thread and the workers.
pub const OWNERS_MAX: usize = WORKERS_MAX + 1;
const _: () = assert!(OWNERS_MAX < 255, "a claim names its owner in 8 bits, 0 being nobody");
/// Times that a worker tries for a record that another writer has, before it leaves the report to
/// its repetition. A claim is held for the time of some twenty stores.
pub const CLAIM_TRIES_WORKER: u32 = 256;
/// Times that a change of membership tries for what another writer has, yielding the processor
/// between.
pub const CLAIM_TRIES_CONTROL: u32 = 65_536;
/// Tries for what another writer has after which it is looked at whether anybody has it: far more
/// than a claim takes.
pub const CLAIM_JUDGED_EVERY: u32 = 64;
const _: () = assert!(CLAIM_JUDGED_EVERY < CLAIM_TRIES_WORKER, "a worker comes to look, too");
/// Times that a reader begins again because a record was published twice while it was read.
pub const READ_TRIES_MAX: u32 = 65_536;
/// Times that a walk along a chain begins again because membership changed meanwhile, before it
/// goes over the live bitmap instead, which no change disturbs.
pub const WALK_TRIES_MAX: u32 = 16;
/// Flaws of a table that are listed when it is verified.
pub const FLAWS_MAX: usize = 64;
/// Slots between two tellings of how far a long work is.
pub const PROGRESS_EVERY: u64 = 1 << 16;
/// Looks at what seems a flaw of a living table that have to agree, before it is one.
pub const LOOKS: u32 = 5;
/// Looks at it in all; what has not stood still by then is told as undecided.
pub const LOOKS_MAX: u32 = 20;
/// Between two looks. A writer that the scheduler kept away over all of them would be taken for a
/// dead one.
pub const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// Times that one look begins again because a writer was there.
pub const LOOK_TRIES_MAX: u32 = 1024;
/// Places of a living table that are looked at again.
pub const SUSPECTS_MAX: usize = 1024;
/// Entries of an AF_XDP ring, at least. With powers of two from here on, every queue's chunks begin
/// on a page, as they must.
pub const RING_ENTRIES_MIN: u32 = 64;
const _: () = assert!((RING_ENTRIES_MIN as usize * CHUNK_BYTES).is_multiple_of(4096));
/// Entries of an AF_XDP ring, at most: 128 MiB of chunks each.
pub const RING_ENTRIES_MAX: u32 = 65_536;
/// Times that binding to a queue is tried while its last owner is being torn down.
pub const BIND_ATTEMPTS: u32 = 100;
/// What lies between two of them: all in all two seconds.
pub const BIND_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Acknowledgements that one REPORT_ACK_BATCH page carries.
pub const ACKNOWLEDGEMENTS_PER_PAGE: usize = 63;

/// Received entries that a worker holds back at most before it sends what they wait for and
/// releases them.
pub const HELD_MAX: usize = 512;
const _: () =
    assert!(HELD_MAX >= BURST && HELD_MAX <= 1024, "half of the smallest receive ring that is configured by default");

/// Received entries that an overloaded worker looks through at a time for what must not wait.
pub const LOOK_AHEAD: usize = 512;
/// Entries waiting in a receive ring at which its worker is overloaded and sheds reports that
/// change nothing, then all reports, then probes too. It stops at half of each. The first is some
/// 300 µs of work, so that control frames wait less than a millisecond however many reports there
/// are; the last is half of the ring that is configured by default.
pub const SHED_AT: [usize; 3] = [512, 1024, 2048];
/// Of a smaller ring, the same from where so much of it is full: an eighth, a quarter, half.
pub const SHED_AT_PART: [usize; 3] = [8, 4, 2];
const _: () = assert!(RING_ENTRIES_MIN as usize / SHED_AT_PART[0] / 2 > 0, "the smallest ring's overload has an end");
const _: () =
    assert!(HELD_MAX + LOOK_AHEAD <= 1024, "what is held fits a quarter of the ring that is configured by default");
/// Nanoseconds between two answers BUSY of a worker to one domain.
pub const BUSY_PAUSE_NS: u64 = 1_000_000;
/// Answers BUSY in a burst, at most.
pub const BUSY_PER_BURST: usize = 8;
/// Nanoseconds after which to ask again, by a BUSY answer: an overload that lasts is not over
/// sooner.
pub const BUSY_RETRY_NS: u64 = 100_000_000;

/// Nanoseconds that an idle worker looks at its ring again and again before it sleeps, where it is
/// to do so.
pub const SPIN_NS: u64 = 50_000;

/// Frames that the control thread posts to a worker before it wakes it.
pub const POSTED_MAX: usize = 16;

/// Frames, requests and outcomes of each kind that the control thread takes in one round.
pub const CONTROL_BATCH: usize = 256;
/// What the database's thread says and the control thread has not yet heard.
pub const DATABASE_OUTCOMES: usize = DATABASE_QUEUE + 16;
/// How long an engine that ends waits for the database that a dying process holds; how often it is
/// said that one does.
pub const DATABASE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Bytes of a line of a histogram log that is read, and of a histogram in it, unfolded.
pub const LOG_LINE_BYTES_MAX: usize = 1 << 20;
/// See [`LOG_LINE_BYTES_MAX`]. Three digits over a day are 30,000 counts, of at most nine bytes.
pub const LOG_HISTOGRAM_BYTES_MAX: usize = 1 << 19;
/// Intervals of the histogram log that an engine has at hand for who asks: ten minutes of them.
pub const RECENT_INTERVALS_MAX: usize = 600;
/// How long after its beginning a recovery is noted in the log at the latest: an autonomous server
/// that cannot be reached must not keep those that can be out of it.
pub const RECOVERY_NOTED_AFTER: std::time::Duration = std::time::Duration::from_secs(10);
/// Connections of who reads metrics over TCP at once, and how long one may last.
pub const SCRAPERS_MAX: usize = 8;
/// See [`SCRAPERS_MAX`].
pub const SCRAPE_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Between two snapshots of a living table.
pub const SNAPSHOT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(600);
/// Updates of recovery's that wait for the database: beyond, they are left to the next recovery,
/// which learns the same.
pub const JOURNAL_UPDATES_MAX: usize = 1 << 20;
/// Rounds of a busy control thread after which it looks at its line to the keeper all the same.
pub const BUSY_ROUNDS_MAX: u32 = 64;
/// Parts that a round of the control thread puts into a new table from the database: about a
/// millisecond's.
pub const FILL_BATCH: usize = 64;
/// The highest real-time priority that an engine may give its threads.
pub const REALTIME_PRIORITY_MAX: u64 = 10;
/// Engines that a starter has running at once: one in control, those that wait, and those that are
/// being taken apart.
pub const ENGINES_MAX: usize = 8;
/// Milliseconds that a keeper waits for an answer of its starter, which has nothing else to do.
/// Less than half of the time after which the service manager takes the keeper itself for dead
/// (`WatchdogSec` of the unit): it is to be the keeper that says why it ends.
pub const STARTER_WAIT_MS: u64 = 4_000;
/// Bytes of what an engine's word holds in words: so many of it are said on, to another engine or
/// to a client.
pub const WORDS_BYTES_MAX: usize = 1024;
/// Descriptors that a service manager keeps for a keeper: a socket for each worker, the frames'
/// memory of each interface, and a few that are one of a kind.
pub const STORED_MAX: usize = WORKERS_MAX + 16;

/// How long a standby may take until it stands by: it maps and touches everything, beside an engine
/// that may be recovering.
pub const STANDBY_READY: std::time::Duration = std::time::Duration::from_secs(60);

/// Seconds for which the program that an upgrade brings is on trial, unless the client says
/// otherwise.
pub const UPGRADE_TRIAL_S: u64 = 30;
/// The longest trial that one may ask for: in it, the program of before stands by.
pub const UPGRADE_TRIAL_S_MAX: u64 = 3600;
/// How long the new program may take to stand by; then the upgrade is refused.
pub const UPGRADE_READY: std::time::Duration = std::time::Duration::from_secs(10);
/// How long the engine that hands over finishes what clients have asked for.
pub const UPGRADE_DRAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// How long after the order to hand over an engine is given up, and killed: its successor waits.
pub const UPGRADE_YIELD: std::time::Duration = std::time::Duration::from_secs(5);

/// Frames that a load prepares before it sends them live, in turn: 256 MiB of them.
pub const LOAD_FRAMES_MAX: u32 = 1 << 21;
/// Bytes of a frame of a load: the longest of a usual Ethernet, without what that adds behind.
pub const LOAD_FRAME_BYTES_MAX: usize = 1514;
const _: () = assert!(LOAD_FRAME_BYTES_MAX >= FRAME_BYTES_MAX && LOAD_FRAME_BYTES_MAX <= CHUNK_BYTES);
/// Terminals that a load speaks for.
pub const LOAD_TERMINALS_MAX: u32 = LOAD_FRAMES_MAX;
/// Frames of one load: whether each was answered is a bit.
pub const LOAD_COUNT_MAX: u64 = 1 << 32;
/// Frames sent at the highest rate whose times are still known when their answers come.
pub const LOAD_TIMES: usize = 1 << 18;
/// Trials of one search for a rate.
pub const LOAD_TRIALS_MAX: u32 = 64;
