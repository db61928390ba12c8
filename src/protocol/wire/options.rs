//! The words that follow a command's key: options in any order and any case.
//!
//! An option that is not known is refused, never passed over; one that is given twice as well,
//! except where Redis takes the last.

use super::Protocol;
use super::arguments::Request;
use super::command::ClientFilter;
use super::command::ConnectionCommand;
use super::command::Credentials;
use super::command::ExpiryChange;
use super::command::Hello;
use super::command::Operation;
use super::command::Put;
use super::command::ReadOptions;
use super::command::ReplyMode;
use super::command::Scan;
use super::command::SetExpiry;
use super::command::WriteOptions;
use super::command::integer;
use super::command::word;
use super::error::CommandError;
use super::number;
use super::table::Name;
use crate::base::limits::CLIENT_NAME_BYTES_MAX;
use crate::base::limits::REQUEST_TIMEOUT_MILLIS_MAX;
use crate::base::limits::SCAN_PATTERN_BYTES_MAX;
use crate::base::time::Wall;

/// What a number of time counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    Seconds,
    Millis,
}

/// A time as a client writes it: so many units, from here on or since the epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Time {
    unit: Unit,
    absolute: bool,
}

impl Time {
    /// `EX`, `PX`, `EXAT` or `PXAT`.
    fn named(option: &[u8]) -> Option<Self> {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let (unit, absolute) = match () {
            () if is(b"ex") => (Unit::Seconds, false),
            () if is(b"px") => (Unit::Millis, false),
            () if is(b"exat") => (Unit::Seconds, true),
            () if is(b"pxat") => (Unit::Millis, true),
            () => return None,
        };
        Some(Self { unit, absolute })
    }

    /// The time that `amount` means, in milliseconds, if they fit.
    fn millis(self, amount: i64, wall: Wall) -> Option<i64> {
        let millis = match self.unit {
            Unit::Seconds => amount.checked_mul(1000)?,
            Unit::Millis => amount,
        };
        let base = if self.absolute { 0 } else { i64::try_from(wall.as_millis()).ok()? };
        millis.checked_add(base)
    }

    /// The time of a new expiry: its number must be above zero.
    fn expiry<'a>(
        self,
        text: &'a [u8],
        wall: Wall,
        command: &'static str,
    ) -> Result<Wall, CommandError<'a>> {
        let amount = integer(text)?;
        let millis = if amount > 0 { self.millis(amount, wall) } else { None };
        let millis = millis.ok_or(CommandError::InvalidExpire { command })?;
        Ok(Wall::from_millis(millis.unsigned_abs()))
    }
}

/// The expiry among the options of `SET` and `GETEX`. As in Redis the same kind may be given again,
/// and the last counts; two kinds are a mistake.
#[derive(Default)]
struct ExpiryOption<'a> {
    time: Option<(Time, &'a [u8])>,
    /// `KEEPTTL` or `PERSIST`.
    other: bool,
}

impl<'a> ExpiryOption<'a> {
    fn time(&mut self, time: Time, text: Option<&'a [u8]>) -> Result<(), CommandError<'a>> {
        let text = text.ok_or(CommandError::Syntax)?;
        if self.other || self.time.is_some_and(|(before, _)| before != time) {
            return Err(CommandError::Syntax);
        }
        self.time = Some((time, text));
        Ok(())
    }

    fn other(&mut self) -> Result<(), CommandError<'a>> {
        self.other = true;
        if self.time.is_some() { Err(CommandError::Syntax) } else { Ok(()) }
    }
}

/// `SET key value [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`.
#[inline]
pub(super) fn set<'a>(request: Request<'a>, wall: Wall) -> Result<Operation<'a>, CommandError<'a>> {
    let value = word(request, 2);
    if request.len() == 3 {
        return Ok(Operation::Set { value, expiry: SetExpiry::Never, previous: false });
    }
    set_with_options(value, request.from(3), wall)
}

fn set_with_options<'a>(
    value: &'a [u8],
    words: Request<'a>,
    wall: Wall,
) -> Result<Operation<'a>, CommandError<'a>> {
    let (mut expiry, mut previous, mut nx, mut xx) = (ExpiryOption::default(), false, false, false);
    let mut words = words.iter();
    while let Some(option) = words.next() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if let Some(time) = Time::named(option) {
            expiry.time(time, words.next())?;
        } else if is(b"keepttl") {
            expiry.other()?;
        } else if is(b"get") {
            previous = true;
        } else if is(b"nx") && !xx {
            nx = true;
        } else if is(b"xx") && !nx {
            xx = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if nx || xx {
        return Err(CommandError::Refused(
            "SET with NX or XX decides by what one node sees, and two nodes may decide at once; \
             use DYN.GET and DYN.PUT with its context, which loses neither of two writes",
        ));
    }
    let expiry = match expiry.time {
        Some((time, text)) => SetExpiry::At(time.expiry(text, wall, "set")?),
        None if expiry.other => SetExpiry::Keep,
        None => SetExpiry::Never,
    };
    Ok(Operation::Set { value, expiry, previous })
}

/// `SETEX key seconds value` and `PSETEX key milliseconds value`.
pub(super) fn set_ex<'a>(
    request: Request<'a>,
    unit: Unit,
    wall: Wall,
) -> Result<Operation<'a>, CommandError<'a>> {
    let command = if unit == Unit::Seconds { "setex" } else { "psetex" };
    let at = Time { unit, absolute: false }.expiry(word(request, 2), wall, command)?;
    Ok(Operation::Set { value: word(request, 3), expiry: SetExpiry::At(at), previous: false })
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`.
pub(super) fn get_ex<'a>(
    request: Request<'a>,
    wall: Wall,
) -> Result<Operation<'a>, CommandError<'a>> {
    let mut expiry = ExpiryOption::default();
    let mut words = request.from(2).iter();
    while let Some(option) = words.next() {
        if let Some(time) = Time::named(option) {
            expiry.time(time, words.next())?;
        } else if option.eq_ignore_ascii_case(b"persist") {
            expiry.other()?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(Operation::GetEx(match expiry.time {
        Some((time, text)) => ExpiryChange::At(time.expiry(text, wall, "getex")?),
        None if expiry.other => ExpiryChange::Remove,
        None => ExpiryChange::Leave,
    }))
}

/// `EXPIRE key seconds` and its kin. A time that has passed is right here: it deletes.
pub(super) fn expire<'a>(
    name: Name,
    request: Request<'a>,
    wall: Wall,
) -> Result<Wall, CommandError<'a>> {
    conditions(request.from(3))?;
    let unit = match name {
        Name::Expire | Name::ExpireAt => Unit::Seconds,
        _ => Unit::Millis,
    };
    let absolute = matches!(name, Name::ExpireAt | Name::PExpireAt);
    let millis = Time { unit, absolute }.millis(integer(word(request, 2))?, wall);
    let millis = millis.ok_or(CommandError::InvalidExpire { command: name.spec().text() })?;
    Ok(Wall::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// The conditions of `EXPIRE`: all are refused, after the complaints that Redis has about them.
///
/// They could be judged by what the coordinator sees, as a plain `EXPIRE` is. But a client that gives
/// one relies on nobody changing the expiry in between, and that cannot be promised.
fn conditions(words: Request<'_>) -> Result<(), CommandError<'_>> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for word in words.iter() {
        match () {
            () if word.eq_ignore_ascii_case(b"nx") => nx = true,
            () if word.eq_ignore_ascii_case(b"xx") => xx = true,
            () if word.eq_ignore_ascii_case(b"gt") => gt = true,
            () if word.eq_ignore_ascii_case(b"lt") => lt = true,
            () => {
                let before = "ERR Unsupported option ";
                return Err(CommandError::About { before, word, after: "" });
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err(CommandError::Text(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if gt && lt {
        return Err(CommandError::Text(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    if nx || xx || gt || lt {
        return Err(CommandError::Refused(
            "NX, XX, GT and LT decide by what one node sees, and two nodes may decide at once; \
             use EXPIRE without them, or DYN.GET and DYN.PUT with its context and EX",
        ));
    }
    Ok(())
}

/// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE type] [CLUSTER]`.
pub(super) fn scan(request: Request<'_>) -> Result<Scan<'_>, CommandError<'_>> {
    let cursor = number::parse_cursor(word(request, 1));
    let cursor = cursor.ok_or(CommandError::Text("ERR invalid cursor"))?;
    let mut scan = Scan { cursor, pattern: None, count: 10, kind: None, cluster: false };
    let mut words = request.from(2).iter();
    while let Some(option) = words.next() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"cluster") {
            scan.cluster = true;
            continue;
        }
        let known = is(b"match") || is(b"count") || is(b"type");
        let value = words.next().filter(|_| known).ok_or(CommandError::Syntax)?;
        if is(b"match") {
            scan.pattern = Some(pattern(value)?);
        } else if is(b"count") {
            scan.count = u64::try_from(integer(value)?).ok().unwrap_or(0);
            if scan.count == 0 {
                return Err(CommandError::Syntax);
            }
        } else {
            scan.kind = Some(value);
        }
    }
    Ok(scan)
}

fn pattern(text: &[u8]) -> Result<&[u8], CommandError<'_>> {
    if text.len() > SCAN_PATTERN_BYTES_MAX {
        return Err(CommandError::Text("TOOBIG the pattern is longer than 1024 bytes"));
    }
    Ok(text)
}

const _: () = assert!(SCAN_PATTERN_BYTES_MAX == 1024, "the error above tells it");

/// The options of `DYN.GET`.
pub(super) fn read(words: Request<'_>) -> Result<ReadOptions, CommandError<'_>> {
    let mut options = ReadOptions::default();
    let mut words = words.iter();
    while let Some(option) = words.next() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        match () {
            () if is(b"r") => once(&mut options.r, count(option, words.next())?, option)?,
            () if is(b"pr") => once(&mut options.pr, count(option, words.next())?, option)?,
            () if is(b"timeout") => {
                once(&mut options.timeout_millis, timeout(words.next())?, option)?;
            }
            () if is(b"strict") && !options.strict => options.strict = true,
            () if is(b"fanout") && !options.fanout_all => {
                if !words.next().is_some_and(|which| which.eq_ignore_ascii_case(b"all")) {
                    return Err(CommandError::Text("ERR syntax error: FANOUT takes ALL"));
                }
                options.fanout_all = true;
            }
            () => return Err(not_an_option(option)),
        }
    }
    Ok(options)
}

/// `context value` and the options of `DYN.PUT`.
pub(super) fn put<'a>(words: Request<'a>, wall: Wall) -> Result<Put<'a>, CommandError<'a>> {
    let (options, expiry) = write(words.from(2), Some(wall))?;
    Ok(Put { context: word(words, 0), value: word(words, 1), expiry, options })
}

/// The options of `DYN.DEL`.
pub(super) fn delete(words: Request<'_>) -> Result<WriteOptions, CommandError<'_>> {
    write(words, None).map(|(options, _)| options)
}

/// The options of a write. `EX` is one of them where there is a time to count from.
fn write(
    words: Request<'_>,
    wall: Option<Wall>,
) -> Result<(WriteOptions, Option<Wall>), CommandError<'_>> {
    let (mut options, mut expiry) = (WriteOptions::default(), None);
    let mut words = words.iter();
    while let Some(option) = words.next() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        match wall {
            _ if is(b"w") => once(&mut options.w, count(option, words.next())?, option)?,
            _ if is(b"pw") => once(&mut options.pw, count(option, words.next())?, option)?,
            _ if is(b"dw") => once(&mut options.dw, count(option, words.next())?, option)?,
            _ if is(b"timeout") => {
                once(&mut options.timeout_millis, timeout(words.next())?, option)?;
            }
            _ if is(b"strict") && !options.strict => options.strict = true,
            Some(wall) if is(b"ex") => {
                let seconds = words.next().ok_or(CommandError::Syntax)?;
                let time = Time { unit: Unit::Seconds, absolute: false };
                once(&mut expiry, time.expiry(seconds, wall, "dyn.put")?, option)?;
            }
            _ => return Err(not_an_option(option)),
        }
    }
    Ok((options, expiry))
}

fn once<'a, T>(slot: &mut Option<T>, value: T, option: &'a [u8]) -> Result<(), CommandError<'a>> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(not_an_option(option)),
    }
}

/// A number of replicas. No cluster keeps 256 copies; what N is, the coordinator knows.
fn count<'a>(option: &'a [u8], text: Option<&'a [u8]>) -> Result<u8, CommandError<'a>> {
    let number = text.and_then(number::parse).and_then(|number| u8::try_from(number).ok());
    number.filter(|&number| number > 0).ok_or(CommandError::About {
        before: "ERR ",
        word: option,
        after: " needs a number of replicas, from 1 to N",
    })
}

fn timeout<'a>(text: Option<&'a [u8]>) -> Result<u32, CommandError<'a>> {
    let number = text.and_then(number::parse).and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (1..=REQUEST_TIMEOUT_MILLIS_MAX).contains(number))
        .ok_or(CommandError::Text("ERR TIMEOUT needs milliseconds, from 1 to 600000"))
}

const _: () = assert!(REQUEST_TIMEOUT_MILLIS_MAX == 600_000, "the error above tells it");

fn not_an_option(option: &[u8]) -> CommandError<'_> {
    CommandError::About {
        before: "ERR syntax error: '",
        word: option,
        after: "' is not an option here, or is there twice",
    }
}

/// `HELLO [protocol [AUTH user password] [SETNAME name]]`.
pub(super) fn hello(request: Request<'_>) -> Result<Hello<'_>, CommandError<'_>> {
    let mut hello = Hello { protocol: None, auth: None, name: None };
    if let Some(protocol) = request.get(1) {
        hello.protocol = Some(match number::parse(protocol) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(CommandError::Text("NOPROTO unsupported protocol version")),
            None => {
                return Err(CommandError::Text(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        });
    }
    let mut words = request.from(2);
    while let Some(option) = words.get(0) {
        if option.eq_ignore_ascii_case(b"auth") && words.len() > 2 {
            hello.auth = Some(Credentials { user: words.get(1), password: word(words, 2) });
            words = words.from(3);
        } else if option.eq_ignore_ascii_case(b"setname") && words.len() > 1 {
            hello.name = Some(client_name(word(words, 1))?);
            words = words.from(2);
        } else {
            let before = "ERR Syntax error in HELLO option '";
            return Err(CommandError::About { before, word: option, after: "'" });
        }
    }
    Ok(hello)
}

/// `AUTH [user] password`.
pub(super) fn auth(request: Request<'_>) -> Result<Credentials<'_>, CommandError<'_>> {
    match request.len() {
        2 => Ok(Credentials { user: None, password: word(request, 1) }),
        3 => Ok(Credentials { user: request.get(1), password: word(request, 2) }),
        _ => Err(CommandError::Syntax),
    }
}

/// A name that fits into a line of words.
pub(super) fn client_name(name: &[u8]) -> Result<&[u8], CommandError<'_>> {
    if name.len() > CLIENT_NAME_BYTES_MAX {
        return Err(CommandError::Text(CLIENT_NAME_TOO_BIG));
    }
    if is_one_word(name) {
        return Ok(name);
    }
    Err(CommandError::Text(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

/// `CLIENT SETINFO LIB-NAME name` and `LIB-VER version`.
pub(super) fn client_library<'a>(
    attribute: &'a [u8],
    value: &'a [u8],
) -> Result<ConnectionCommand<'a>, CommandError<'a>> {
    let (command, wrong): (fn(&'a [u8]) -> ConnectionCommand<'a>, _) = match () {
        () if attribute.eq_ignore_ascii_case(b"lib-name") => (
            ConnectionCommand::ClientLibraryName,
            "ERR lib-name cannot contain spaces, newlines or special characters.",
        ),
        () if attribute.eq_ignore_ascii_case(b"lib-ver") => (
            ConnectionCommand::ClientLibraryVersion,
            "ERR lib-ver cannot contain spaces, newlines or special characters.",
        ),
        () => {
            let before = "ERR Unrecognized option '";
            return Err(CommandError::About { before, word: attribute, after: "'" });
        }
    };
    match value.len() {
        ..=CLIENT_NAME_BYTES_MAX if is_one_word(value) => Ok(command(value)),
        ..=CLIENT_NAME_BYTES_MAX => Err(CommandError::Text(wrong)),
        _ => Err(CommandError::Text(CLIENT_NAME_TOO_BIG)),
    }
}

const CLIENT_NAME_TOO_BIG: &str = "TOOBIG what a client calls itself has at most 1024 bytes";

const _: () = assert!(CLIENT_NAME_BYTES_MAX == 1024, "the error above tells it");

fn is_one_word(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// `CLIENT LIST [TYPE type | ID id …]`.
pub(super) fn client_filter(words: Request<'_>) -> Result<ClientFilter<'_>, CommandError<'_>> {
    let Some(by) = words.get(0) else { return Ok(ClientFilter::All) };
    if by.eq_ignore_ascii_case(b"type") && words.len() == 2 {
        let kind = word(words, 1);
        let is = |name: &[u8]| kind.eq_ignore_ascii_case(name);
        return match () {
            () if is(b"normal") => Ok(ClientFilter::All),
            () if is(b"master") || is(b"replica") || is(b"slave") || is(b"pubsub") => {
                Ok(ClientFilter::None)
            }
            () => {
                let before = "ERR Unknown client type '";
                Err(CommandError::About { before, word: kind, after: "'" })
            }
        };
    }
    if by.eq_ignore_ascii_case(b"id") && words.len() > 1 {
        let ids = words.from(1);
        if ids.iter().all(|id| number::parse(id).is_some_and(|id| id > 0)) {
            return Ok(ClientFilter::Ids(ids));
        }
        return Err(CommandError::Text("ERR Invalid client ID"));
    }
    Err(CommandError::Syntax)
}

/// `CLIENT NO-EVICT ON | OFF`.
pub(super) fn no_evict(mode: &[u8]) -> Result<ConnectionCommand<'_>, CommandError<'_>> {
    if mode.eq_ignore_ascii_case(b"on") || mode.eq_ignore_ascii_case(b"off") {
        return Ok(ConnectionCommand::ClientNoEvict);
    }
    Err(CommandError::Syntax)
}

/// `CLIENT REPLY ON | OFF | SKIP`.
pub(super) fn reply_mode(mode: &[u8]) -> Result<ReplyMode, CommandError<'_>> {
    match () {
        () if mode.eq_ignore_ascii_case(b"on") => Ok(ReplyMode::On),
        () if mode.eq_ignore_ascii_case(b"off") => Ok(ReplyMode::Off),
        () if mode.eq_ignore_ascii_case(b"skip") => Ok(ReplyMode::Skip),
        () => Err(CommandError::Syntax),
    }
}
