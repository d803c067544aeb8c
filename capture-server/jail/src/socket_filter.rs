//! A small seccomp filter that every jail gets before exec: only Unix and TCP sockets.
//!
//! In: nothing. Out: a classic BPF program. The shipped profile says the same for the container; this one also holds on
//! a laptop and in a degraded jail under the runtime's default profile, where UDP would walk past Landlock.
//! It must not grow into a second profile: sockets, and the two ways around that rule (other architectures, io_uring).

use libc::{
    AF_INET, AF_INET6, AF_UNIX, BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SOCK_STREAM, SYS_io_uring_setup, SYS_socket,
    sock_filter,
};

/// linux/audit.h
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;

/// x32 calls are native by their architecture but have this bit; on other machines no number is that large.
const X32_BIT: u32 = 0x4000_0000;
const IPPROTO_TCP: u32 = 6;
/// SOCK_NONBLOCK and SOCK_CLOEXEC lie above the type.
const TYPE_MASK: u32 = 0xf;

/// Offsets in `struct seccomp_data`; of the arguments the low half (both architectures are little-endian).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENT: [u32; 3] = [16, 24, 32];

/// Where the three ends of the program are.
const DENY: u8 = 16;
const ALLOW: u8 = 17;
const KILL: u8 = 18;

/// The program.
pub fn program() -> Vec<sock_filter> {
    let mut code: Vec<sock_filter> = Vec::with_capacity(19);
    load(&mut code, ARCH);
    jump_unless(&mut code, NATIVE, KILL);
    load(&mut code, NUMBER);
    branch(&mut code, BPF_JGE, X32_BIT, DENY);
    branch(&mut code, BPF_JEQ, number(SYS_io_uring_setup), DENY);
    jump_unless(&mut code, number(SYS_socket), ALLOW);
    load(&mut code, ARGUMENT[0]);
    branch(&mut code, BPF_JEQ, positive(AF_UNIX), ALLOW);
    branch(&mut code, BPF_JEQ, positive(AF_INET), 10);
    jump_unless(&mut code, positive(AF_INET6), DENY);
    load(&mut code, ARGUMENT[1]);
    code.push(statement(BPF_ALU | BPF_AND | BPF_K, TYPE_MASK));
    jump_unless(&mut code, positive(SOCK_STREAM), DENY);
    load(&mut code, ARGUMENT[2]);
    branch(&mut code, BPF_JEQ, 0, ALLOW);
    branch(&mut code, BPF_JEQ, IPPROTO_TCP, ALLOW);
    for end in [
        SECCOMP_RET_ERRNO | positive(EPERM),
        SECCOMP_RET_ALLOW,
        SECCOMP_RET_KILL_PROCESS,
    ] {
        code.push(statement(BPF_RET | BPF_K, end));
    }
    code
}

fn positive(number: i32) -> u32 {
    number.unsigned_abs()
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt: 0,
        jf: 0,
        k,
    }
}

fn load(code: &mut Vec<sock_filter>, offset: u32) {
    code.push(statement(BPF_LD | BPF_W | BPF_ABS, offset));
}

/// Goes to the instruction `target` if the test holds.
fn branch(code: &mut Vec<sock_filter>, test: u32, k: u32, target: u8) {
    let jt = distance(code, target);
    code.push(sock_filter {
        jt,
        ..statement(BPF_JMP | test | BPF_K, k)
    });
}

/// Goes to the instruction `target` unless the value is `k`.
fn jump_unless(code: &mut Vec<sock_filter>, k: u32, target: u8) {
    let jf = distance(code, target);
    code.push(sock_filter {
        jf,
        ..statement(BPF_JMP | BPF_JEQ | BPF_K, k)
    });
}

fn distance(code: &[sock_filter], target: u8) -> u8 {
    target.saturating_sub(u8::try_from(code.len() + 1).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, for the instructions that it uses.
    fn run(arch: u32, nr: libc::c_long, arguments: [u32; 3]) -> u32 {
        let code = program();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let instruction = code[at];
            let class = u32::from(instruction.code);
            at += 1;
            if class == (BPF_RET | BPF_K) {
                return instruction.k;
            } else if class == (BPF_LD | BPF_W | BPF_ABS) {
                accumulator = match instruction.k {
                    NUMBER => number(nr),
                    ARCH => arch,
                    offset => arguments[ARGUMENT.iter().position(|a| *a == offset).unwrap()],
                };
            } else if class == (BPF_ALU | BPF_AND | BPF_K) {
                accumulator &= instruction.k;
            } else {
                let holds = if class == (BPF_JMP | BPF_JGE | BPF_K) {
                    accumulator >= instruction.k
                } else {
                    accumulator == instruction.k
                };
                at += usize::from(if holds { instruction.jt } else { instruction.jf });
            }
        }
    }

    const DENIED: u32 = SECCOMP_RET_ERRNO | 1;

    #[test]
    fn only_unix_and_tcp_sockets_can_be_made() {
        let nonblock = positive(libc::SOCK_NONBLOCK);
        let table = [
            ([1, 1, 0], SECCOMP_RET_ALLOW),
            ([1, 2, 0], SECCOMP_RET_ALLOW),
            ([2, 1, 0], SECCOMP_RET_ALLOW),
            ([2, 1 | nonblock, 6], SECCOMP_RET_ALLOW),
            ([10, 1, 6], SECCOMP_RET_ALLOW),
            ([2, 2, 0], DENIED),
            ([2, 2 | nonblock, 17], DENIED),
            ([10, 2, 0], DENIED),
            ([2, 3, 1], DENIED),
            ([2, 1, 262], DENIED),
            ([16, 3, 0], DENIED),
            ([17, 3, 0], DENIED),
            ([40, 1, 0], DENIED),
        ];
        for (arguments, verdict) in table {
            assert_eq!(run(NATIVE, SYS_socket, arguments), verdict, "{arguments:?}");
        }
    }

    #[test]
    fn there_is_no_way_around_it() {
        assert_eq!(run(0x4000_0003, 102, [0; 3]), SECCOMP_RET_KILL_PROCESS, "i386");
        assert_eq!(run(NATIVE, SYS_socket | 0x4000_0000, [2, 2, 0]), DENIED, "x32");
        assert_eq!(run(NATIVE, SYS_io_uring_setup, [0; 3]), DENIED);
        assert_eq!(run(NATIVE, libc::SYS_read, [0; 3]), SECCOMP_RET_ALLOW);
    }
}
