(* FIPS 180-4, 6.4. *)

type buf = Sha_stream.buf

module Compression = struct
  type state = int64 array

  let block_size = 128
  let length_size = 16
  let start () = Array.copy Sha_tables.square_roots
  let duplicate = Array.copy
  let ( + ) = Int64.add
  let ( ^^ ) = Int64.logxor
  let ( & ) = Int64.logand
  let shr x n = Int64.shift_right_logical x n
  let rotr x n = Int64.logor (shr x n) (Int64.shift_left x (64 - n))

  let absorb h data pos =
    let w = Array.make 80 0L in
    for i = 0 to 15 do
      w.(i) <- Bytes.get_int64_be data (Int.add pos (8 * i))
    done;
    for i = 16 to 79 do
      let x = w.(i - 15) and y = w.(i - 2) in
      let s0 = rotr x 1 ^^ rotr x 8 ^^ shr x 7 in
      let s1 = rotr y 19 ^^ rotr y 61 ^^ shr y 6 in
      w.(i) <- w.(i - 16) + s0 + w.(i - 7) + s1
    done;
    let v = Array.copy h in
    for i = 0 to 79 do
      let a = v.(0) and b = v.(1) and c = v.(2) in
      let e = v.(4) and f = v.(5) and g = v.(6) in
      let s1 = rotr e 14 ^^ rotr e 18 ^^ rotr e 41 in
      let choose = (e & f) ^^ (Int64.lognot e & g) in
      let t1 = v.(7) + s1 + choose + Sha_tables.cube_roots.(i) + w.(i) in
      let s0 = rotr a 28 ^^ rotr a 34 ^^ rotr a 39 in
      let majority = (a & b) ^^ (a & c) ^^ (b & c) in
      Array.blit v 0 v 1 7;
      v.(4) <- v.(4) + t1;
      v.(0) <- t1 + s0 + majority
    done;
    Array.iteri (fun i x -> h.(i) <- h.(i) + x) v

  let digest h =
    let out = Bytes.create 64 in
    Array.iteri (fun i x -> Bytes.set_int64_be out (8 * i) x) h;
    Bytes.unsafe_to_string out
end

include Sha_stream.Make (Compression)
