//! Cache lines that an operation touches: which memory each step of a child names.
//!
//! Before a step, the instruction that it will do is decoded, and the addresses that it reads,
//! writes or prefetches are worked out from the registers. Lines of mapped memory and the heap
//! count; those of the stack, of programs and of their constants do not.

#[cfg(target_arch = "x86_64")]
pub use x86::Watch;

#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::Watch;

use serde::Serialize;

/// Lines of 64 bytes, of one operation on the average.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lines {
    /// All that it touches.
    pub touched: f64,
    /// Of those, the ones that not even half of the operations touch. The others stay in a near
    /// cache.
    pub own: f64,
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    use std::fs;
    use std::ops::Range;

    use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register};
    use nix::libc::{SYS_getppid, user_regs_struct};
    use nix::sys::ptrace;
    use nix::unistd::Pid;

    use super::Lines;
    use crate::Failure;

    const LINE: u64 = 64;
    /// The longest instruction, in words that are read at a time.
    const WORDS: u64 = 2;

    /// What the steps of a child touch, operation by operation. A `getppid` parts two of them.
    pub struct Watch {
        pid: Pid,
        /// Memory that counts.
        memory: Vec<Range<u64>>,
        /// Memory that does not.
        other: Vec<Range<u64>>,
        decoded: HashMap<u64, Instruction>,
        information: InstructionInfoFactory,
        /// Lines of the present operation; none before the first.
        present: Option<BTreeSet<u64>>,
        operations: Vec<BTreeSet<u64>>,
    }

    impl Watch {
        pub fn new(pid: Pid) -> Result<Self, Failure> {
            let mut watch = Self {
                pid,
                memory: Vec::new(),
                other: Vec::new(),
                decoded: HashMap::new(),
                information: InstructionInfoFactory::new(),
                present: None,
                operations: Vec::new(),
            };
            watch.read_maps()?;
            Ok(watch)
        }

        /// Notes what the next step will touch.
        pub fn note(&mut self) -> Result<(), Failure> {
            let registers = ptrace::getregs(self.pid)?;
            let instruction = self.instruction(registers.rip)?;
            if instruction.mnemonic() == Mnemonic::Syscall && registers.rax == SYS_getppid as u64 {
                let ended = self.present.replace(BTreeSet::new());
                self.operations.extend(ended.filter(|lines| !lines.is_empty()));
                return Ok(());
            }
            let prefetches = matches!(
                instruction.mnemonic(),
                Mnemonic::Prefetch
                    | Mnemonic::Prefetcht0
                    | Mnemonic::Prefetcht1
                    | Mnemonic::Prefetcht2
                    | Mnemonic::Prefetchnta
                    | Mnemonic::Prefetchw
                    | Mnemonic::Prefetchwt1
            );
            let mut touched = Vec::new();
            for used in self.information.info(&instruction).used_memory() {
                if used.access() == OpAccess::NoMemAccess && !prefetches {
                    continue;
                }
                if let Some(address) = used.virtual_address(0, |register, _, _| value(&registers, register)) {
                    let last = address + (used.memory_size().size() as u64).max(1) - 1;
                    touched.extend(address / LINE..=last / LINE);
                }
            }
            for line in touched {
                if self.counts(line * LINE)? {
                    self.present.get_or_insert_default().insert(line);
                }
            }
            Ok(())
        }

        /// Of an operation; none where there were none.
        pub fn lines(&self) -> Option<Lines> {
            let operations = self.operations.len();
            let mut times: BTreeMap<u64, usize> = BTreeMap::new();
            for line in self.operations.iter().flatten() {
                *times.entry(*line).or_default() += 1;
            }
            let each = |total: usize| total as f64 / operations as f64;
            let own = times.values().filter(|times| **times * 2 < operations);
            (operations > 0).then(|| Lines { touched: each(times.values().sum()), own: each(own.sum()) })
        }

        fn instruction(&mut self, at: u64) -> Result<Instruction, Failure> {
            if let Some(known) = self.decoded.get(&at) {
                return Ok(*known);
            }
            let mut bytes = Vec::new();
            for word in 0..WORDS {
                let Ok(word) = ptrace::read(self.pid, (at + word * 8) as ptrace::AddressType) else { break };
                bytes.extend(word.to_ne_bytes());
            }
            let decoded = Decoder::with_ip(64, &bytes, at, DecoderOptions::NONE).decode();
            if decoded.is_invalid() {
                return Err(format!("the instruction at {at:#x} cannot be decoded: {bytes:02x?}").into());
            }
            self.decoded.insert(at, decoded);
            Ok(decoded)
        }

        /// Whether lines there count.
        fn counts(&mut self, address: u64) -> Result<bool, Failure> {
            let within = |ranges: &[Range<u64>]| ranges.iter().any(|range| range.contains(&address));
            if !within(&self.memory) && !within(&self.other) {
                // Mapped since.
                self.read_maps()?;
            }
            Ok(within(&self.memory))
        }

        fn read_maps(&mut self) -> Result<(), Failure> {
            let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid))?;
            let lines: Vec<Vec<&str>> = maps.lines().map(|line| line.split_whitespace().collect()).collect();
            // A program's constants and variables lie beside its code, under the same name.
            let programs: BTreeSet<&str> =
                lines.iter().filter(|line| line[1].contains('x')).filter_map(|line| line.get(5).copied()).collect();
            self.memory.clear();
            self.other.clear();
            for line in &lines {
                let (begin, end) = line[0].split_once('-').ok_or("a mapping is a range")?;
                let range = u64::from_str_radix(begin, 16)?..u64::from_str_radix(end, 16)?;
                let is_memory = match line.get(5) {
                    None | Some(&"[heap]") => true,
                    Some(name) => !name.starts_with('[') && !programs.contains(name),
                };
                if is_memory { self.memory.push(range) } else { self.other.push(range) }
            }
            Ok(())
        }
    }

    /// What is in a register that an address is made of.
    fn value(registers: &user_regs_struct, register: Register) -> Option<u64> {
        let whole = match register.full_register() {
            Register::RAX => registers.rax,
            Register::RBX => registers.rbx,
            Register::RCX => registers.rcx,
            Register::RDX => registers.rdx,
            Register::RSI => registers.rsi,
            Register::RDI => registers.rdi,
            Register::RBP => registers.rbp,
            Register::RSP => registers.rsp,
            Register::R8 => registers.r8,
            Register::R9 => registers.r9,
            Register::R10 => registers.r10,
            Register::R11 => registers.r11,
            Register::R12 => registers.r12,
            Register::R13 => registers.r13,
            Register::R14 => registers.r14,
            Register::R15 => registers.r15,
            Register::FS => return Some(registers.fs_base),
            Register::GS => return Some(registers.gs_base),
            Register::CS | Register::DS | Register::ES | Register::SS => return Some(0),
            // A vector of addresses.
            _ => return None,
        };
        Some(if register.size() == 4 { whole & 0xffff_ffff } else { whole })
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use nix::unistd::Pid;

    use super::Lines;
    use crate::Failure;

    /// Sees nothing: what is read here are the registers of another kind of processor.
    pub struct Watch;

    impl Watch {
        #[expect(missing_docs, clippy::unnecessary_wraps, reason = "as on the other processor")]
        pub fn new(_: Pid) -> Result<Self, Failure> {
            Ok(Self)
        }

        #[expect(missing_docs, clippy::unnecessary_wraps, reason = "as on the other processor")]
        pub fn note(&mut self) -> Result<(), Failure> {
            Ok(())
        }

        #[expect(missing_docs, reason = "as on the other processor")]
        pub fn lines(&self) -> Option<Lines> {
            None
        }
    }
}
