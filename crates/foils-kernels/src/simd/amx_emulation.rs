//! AMX for processors without it, so that the machine code of the kernels can be tested on them: a handler of the signal for
//! unknown instructions that decodes the instructions on tiles which we use and does what Intel's manual says they do.

use std::cell::RefCell;
use std::sync::OnceLock;

/// Eight tiles of 16 rows of 64 bytes, and their configuration.
struct State {
    configured: bool,
    row_bytes: [usize; 8],
    rows: [usize; 8],
    tiles: [[[u8; 64]; 16]; 8],
}

thread_local! {
    static STATE: RefCell<State> =
        const { RefCell::new(State { configured: false, row_bytes: [0; 8], rows: [0; 8], tiles: [[[0; 64]; 16]; 8] }) };
}

static INSTALLED: OnceLock<bool> = OnceLock::new();

/// Whether [`install`] was called on a processor without AMX.
pub(crate) fn is_installed() -> bool {
    INSTALLED.get() == Some(&true)
}

/// Installs the emulation, once for the process, where the processor has no AMX.
pub(crate) fn install() {
    INSTALLED.get_or_init(|| {
        let found = super::features();
        if found.amx_bf16 || found.amx_int8 || !found.avx512 {
            return false;
        }
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and touches nothing but what the instruction that
        // raised the signal would touch, and a thread-local variable without initialisation or destructor.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
        }
        true
    });
}

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the context of the thread; its instruction pointer points at an instruction, of at most 15
    // bytes, and ours are never the last of the program.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let code: [u8; 11] = (registers[libc::REG_RIP as usize] as *const [u8; 11]).read();
        match STATE.with(|state| execute(&mut state.borrow_mut(), &code, &register_values(registers))) {
            Some(length) => registers[libc::REG_RIP as usize] += length as i64,
            // Not ours: without a handler it is raised again, and ends the program.
            None => {
                libc::signal(libc::SIGILL, libc::SIG_DFL);
            }
        }
    }
}

/// The general registers in the order of their numbers in instructions.
fn register_values(registers: &[libc::greg_t]) -> [usize; 16] {
    use libc::{REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    use libc::{REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RSI, REG_RSP};
    [
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13,
        REG_R14, REG_R15,
    ]
    .map(|register| registers[register as usize] as usize)
}

/// Does what the instruction says; returns its length, or nothing when it is not one of ours.
///
/// # Safety
/// The memory that the instruction names may be read or written.
unsafe fn execute(state: &mut State, code: &[u8; 11], registers: &[usize; 16]) -> Option<usize> {
    // VEX of three bytes, map 0F38, W = 0, 128 bits.
    let [0xc4, second, third, opcode, modrm, ..] = *code else { return None };
    if second & 0x1f != 2 || third & 0x84 != 0 {
        return None;
    }
    let (prefix, vvvv) = (third & 3, (!third >> 3 & 15) as usize);
    let (reg, rm) = ((modrm >> 3 & 7) as usize, (modrm & 7) as usize);
    const NONE: u8 = 0;
    const XF3: u8 = 2;
    const XF2: u8 = 3;
    let in_registers = modrm >> 6 == 3;
    match (prefix, opcode, in_registers) {
        (NONE, 0x49, true) if modrm == 0xc0 => {
            assert!(state.configured, "tilerelease without tiles");
            state.configured = false;
            Some(5)
        }
        (XF2, 0x49, true) if rm == 0 => {
            state.check(reg);
            state.tiles[reg] = [[0; 64]; 16];
            Some(5)
        }
        (NONE, 0x49, false) if reg == 0 => {
            let (address, _, length) = address(code, registers)?;
            // SAFETY: the caller's.
            let bytes = unsafe { (address as *const [u8; 64]).read() };
            state.configure(&bytes);
            Some(length)
        }
        (XF2 | XF3, 0x4b, false) if rm == 4 => {
            let (address, stride, length) = address(code, registers)?;
            state.check(reg);
            if prefix == XF2 {
                state.tiles[reg] = [[0; 64]; 16];
            }
            for row in 0..state.rows[reg] {
                let memory = address.wrapping_add(row.wrapping_mul(stride));
                let (tile, bytes) = (state.tiles[reg][row].as_mut_ptr(), state.row_bytes[reg]);
                // SAFETY: the caller's; a row of a tile holds 64 bytes, of which it is configured to use `bytes`.
                unsafe {
                    match prefix {
                        XF2 => std::ptr::copy_nonoverlapping(memory as *const u8, tile, bytes),
                        _ => std::ptr::copy_nonoverlapping(tile, memory as *mut u8, bytes),
                    }
                }
            }
            Some(length)
        }
        (XF3, 0x5c, true) => {
            // SAFETY: whoever tests AMX has AVX-512, as the kernels need.
            unsafe { state.bf16(reg, rm, vvvv) };
            Some(5)
        }
        (XF3, 0x5e, true) => {
            state.bytes(reg, rm, vvvv);
            Some(5)
        }
        _ => None,
    }
}

/// Base and displacement, index times scale, and the length of the instruction.
fn address(code: &[u8; 11], registers: &[usize; 16]) -> Option<(usize, usize, usize)> {
    let (second, modrm) = (code[1], code[4]);
    // The bits that extend register numbers are stored inverted.
    let (extend_index, extend_base) = (usize::from(second & 0x40 == 0) * 8, usize::from(second & 0x20 == 0) * 8);
    let (mode, rm) = (modrm >> 6, (modrm & 7) as usize);
    let (base, index, mut length) = if rm == 4 {
        let sib = code[5];
        let number = (sib >> 3 & 7) as usize + extend_index;
        let index = if number == 4 { 0 } else { registers[number] << (sib >> 6) };
        ((sib & 7) as usize, index, 6)
    } else {
        (rm, 0, 5)
    };
    if mode == 0 && base == 5 {
        return None; // relative to the instruction pointer, or without a base
    }
    let displacement = match mode {
        0 => 0,
        1 => isize::from(code[length] as i8),
        _ => i32::from_le_bytes(code[length..length + 4].try_into().ok()?) as isize,
    };
    length += [0, 1, 4][mode as usize];
    Some((registers[base + extend_base].wrapping_add_signed(displacement), index, length))
}

impl State {
    fn configure(&mut self, bytes: &[u8; 64]) {
        assert_eq!(bytes[0], 1, "palette");
        for tile in 0..8 {
            self.row_bytes[tile] = u16::from_le_bytes([bytes[16 + 2 * tile], bytes[17 + 2 * tile]]).into();
            self.rows[tile] = bytes[48 + tile].into();
            assert!(self.row_bytes[tile] <= 64 && self.rows[tile] <= 16, "tile {tile} is too large");
        }
        assert!(!self.configured, "tiles are set up twice");
        self.configured = true;
        self.tiles = [[[0; 64]; 16]; 8];
    }

    fn check(&self, tile: usize) {
        assert!(self.configured && self.rows[tile] > 0, "tile {tile} is not set up");
    }

    /// The shape of a product: rows of `to`, its columns of four bytes, and the depth in fours of bytes.
    fn shape(&self, to: usize, a: usize, b: usize) -> (usize, usize, usize) {
        [to, a, b].into_iter().for_each(|tile| self.check(tile));
        let (rows, columns, depth) = (self.rows[to], self.row_bytes[to] / 4, self.row_bytes[a] / 4);
        assert!(self.rows[a] == rows && self.row_bytes[b] / 4 == columns && self.rows[b] == depth, "tiles do not fit together");
        assert!(to != a && to != b && a != b, "the operands of a product are different tiles");
        (rows, columns, depth)
    }

    fn four(&self, tile: usize, row: usize, column: usize) -> [u8; 4] {
        self.tiles[tile][row][4 * column..][..4].try_into().expect("four bytes")
    }

    /// TDPBF16PS: even and odd products are summed apart by fused multiply-adds, then together, then added to what is there;
    /// denormal numbers count as 0 and become 0.
    #[target_feature(enable = "avx512f,fma")]
    fn bf16(&mut self, to: usize, a: usize, b: usize) {
        let (rows, columns, depth) = self.shape(to, a, b);
        let (a, b) = (halves(&self.tiles[a]), halves(&self.tiles[b]));
        for (row, a) in a.iter().enumerate().take(rows) {
            let mut sums = [[0f32; 16]; 2];
            for (k, b) in b.iter().enumerate().take(depth) {
                for (sums, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                    for (sum, y) in sums.iter_mut().zip(b) {
                        *sum = flushed(a[k].mul_add(*y, *sum));
                    }
                }
            }
            for (column, (even, odd)) in sums[0].iter().zip(sums[1]).enumerate().take(columns) {
                let before = flushed(f32::from_le_bytes(self.four(to, row, column)));
                let after = flushed(before + flushed(even + odd));
                self.tiles[to][row][4 * column..][..4].copy_from_slice(&after.to_le_bytes());
            }
        }
    }

    /// TDPBSUD: products of signed bytes with unsigned ones are added to 32-bit integers, which wrap around.
    fn bytes(&mut self, to: usize, a: usize, b: usize) {
        let (rows, columns, depth) = self.shape(to, a, b);
        for row in 0..rows {
            for column in 0..columns {
                let mut sum = i32::from_le_bytes(self.four(to, row, column));
                for k in 0..depth {
                    let (x, y) = (self.four(a, row, k), self.four(b, k, column));
                    sum = x.into_iter().zip(y).fold(sum, |sum, (x, y)| sum.wrapping_add(i32::from(x as i8) * i32::from(y)));
                }
                self.tiles[to][row][4 * column..][..4].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
}

/// Of each row the even and the odd numbers.
#[inline(always)]
fn halves(tile: &[[u8; 64]; 16]) -> [[[f32; 16]; 2]; 16] {
    tile.map(|row| {
        [0, 2].map(|half| {
            std::array::from_fn(|k| {
                let bf16 = u16::from_le_bytes([row[4 * k + half], row[4 * k + half + 1]]);
                flushed(f32::from_bits(u32::from(bf16) << 16))
            })
        })
    })
}

#[inline(always)]
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0f32.copysign(x) } else { x }
}
