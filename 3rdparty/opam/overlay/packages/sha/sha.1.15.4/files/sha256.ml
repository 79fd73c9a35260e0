(* FIPS 180-4, 6.2. Words are ints, cut to 32 bits; this needs a 64-bit OCaml. *)

type buf = Sha_stream.buf

module Compression = struct
  type state = int array

  let block_size = 64
  let length_size = 8
  let upper x = Int64.to_int (Int64.shift_right_logical x 32)
  let k = Array.map upper (Array.sub Sha_tables.cube_roots 0 64)
  let start () = Array.map upper Sha_tables.square_roots
  let duplicate = Array.copy
  let cut x = x land 0xffffffff
  let rotr n x = (x lsr n) lor cut (x lsl (32 - n))

  let absorb h data pos =
    let w = Array.make 64 0 in
    for i = 0 to 15 do
      w.(i) <- cut (Int32.to_int (Bytes.get_int32_be data (pos + (4 * i))))
    done;
    for i = 16 to 63 do
      let x = w.(i - 15) and y = w.(i - 2) in
      let s0 = rotr 7 x lxor rotr 18 x lxor (x lsr 3) in
      let s1 = rotr 17 y lxor rotr 19 y lxor (y lsr 10) in
      w.(i) <- cut (w.(i - 16) + s0 + w.(i - 7) + s1)
    done;
    let v = Array.copy h in
    for i = 0 to 63 do
      let a = v.(0) and b = v.(1) and c = v.(2) in
      let e = v.(4) and f = v.(5) and g = v.(6) in
      let s1 = rotr 6 e lxor rotr 11 e lxor rotr 25 e in
      let choose = (e land f) lxor (lnot e land g) in
      let t1 = v.(7) + s1 + choose + k.(i) + w.(i) in
      let s0 = rotr 2 a lxor rotr 13 a lxor rotr 22 a in
      let majority = (a land b) lxor (a land c) lxor (b land c) in
      Array.blit v 0 v 1 7;
      v.(4) <- cut (v.(4) + t1);
      v.(0) <- cut (t1 + s0 + majority)
    done;
    Array.iteri (fun i x -> h.(i) <- cut (h.(i) + x)) v

  let digest h =
    let out = Bytes.create 32 in
    Array.iteri (fun i x -> Bytes.set_int32_be out (4 * i) (Int32.of_int x)) h;
    Bytes.unsafe_to_string out
end

include Sha_stream.Make (Compression)
