(* FIPS 180-4, 6.1. Words are ints, cut to 32 bits; this needs a 64-bit OCaml. *)

type buf = Sha_stream.buf

module Compression = struct
  type state = int array

  let block_size = 64
  let length_size = 8

  let start () =
    [| 0x67452301; 0xefcdab89; 0x98badcfe; 0x10325476; 0xc3d2e1f0 |]

  let duplicate = Array.copy
  let cut x = x land 0xffffffff
  let rotl n x = cut (x lsl n) lor (x lsr (32 - n))

  let absorb h data pos =
    let w = Array.make 80 0 in
    for i = 0 to 15 do
      w.(i) <- cut (Int32.to_int (Bytes.get_int32_be data (pos + (4 * i))))
    done;
    for i = 16 to 79 do
      w.(i) <- rotl 1 (w.(i - 3) lxor w.(i - 8) lxor w.(i - 14) lxor w.(i - 16))
    done;
    let a = ref h.(0) and b = ref h.(1) and c = ref h.(2) in
    let d = ref h.(3) and e = ref h.(4) in
    for i = 0 to 79 do
      let mix, k =
        if i < 20 then (!b land !c) lxor (lnot !b land !d), 0x5a827999
        else if i < 40 then !b lxor !c lxor !d, 0x6ed9eba1
        else if i < 60 then
          (!b land !c) lxor (!b land !d) lxor (!c land !d), 0x8f1bbcdc
        else !b lxor !c lxor !d, 0xca62c1d6
      in
      let next = cut (rotl 5 !a + mix + !e + k + w.(i)) in
      e := !d;
      d := !c;
      c := rotl 30 !b;
      b := !a;
      a := next
    done;
    List.iteri (fun i x -> h.(i) <- cut (h.(i) + x)) [ !a; !b; !c; !d; !e ]

  let digest h =
    let out = Bytes.create 20 in
    Array.iteri (fun i x -> Bytes.set_int32_be out (4 * i) (Int32.of_int x)) h;
    Bytes.unsafe_to_string out
end

include Sha_stream.Make (Compression)
