(* What the three functions share: cutting the message into blocks, the padding
   (FIPS 180-4, 5.1), and the interface. *)

type buf =
  (int, Bigarray.int8_unsigned_elt, Bigarray.c_layout) Bigarray.Array1.t

module type S = sig
  type ctx
  type t

  val init : unit -> ctx
  val copy : ctx -> ctx
  val update_string : ctx -> string -> unit
  val update_substring : ctx -> string -> int -> int -> unit
  val update_bytes : ctx -> bytes -> unit
  val update_buffer : ctx -> buf -> unit
  val finalize : ctx -> t
  val string : string -> t
  val substring : string -> int -> int -> t
  val buffer : buf -> t
  val channel : in_channel -> int -> t
  val file : string -> t
  val output : out_channel -> t -> unit
  val equal : t -> t -> bool
  val to_bin : t -> string
  val to_hex : t -> string
end

module type Compression = sig
  type state

  val block_size : int

  (* Bytes at the end of the last block that hold the message's length. *)
  val length_size : int
  val start : unit -> state
  val duplicate : state -> state

  (* [absorb state data pos] takes in the block that begins at [pos]. *)
  val absorb : state -> bytes -> int -> unit
  val digest : state -> string
end

module Make (C : Compression) : S = struct
  type ctx = {
    state : C.state;
    pending : bytes; (* one block, of which [filled] bytes are valid *)
    mutable filled : int;
    mutable total : int; (* bytes so far *)
  }

  type t = string

  let init () =
    {
      state = C.start ();
      pending = Bytes.create C.block_size;
      filled = 0;
      total = 0;
    }

  let copy c =
    { c with state = C.duplicate c.state; pending = Bytes.copy c.pending }

  let feed c data pos len =
    c.total <- c.total + len;
    let pos = ref pos and left = ref len in
    if c.filled > 0 then begin
      let n = min !left (C.block_size - c.filled) in
      Bytes.blit data !pos c.pending c.filled n;
      c.filled <- c.filled + n;
      pos := !pos + n;
      left := !left - n;
      if c.filled = C.block_size then begin
        C.absorb c.state c.pending 0;
        c.filled <- 0
      end
    end;
    while !left >= C.block_size do
      C.absorb c.state data !pos;
      pos := !pos + C.block_size;
      left := !left - C.block_size
    done;
    if !left > 0 then begin
      Bytes.blit data !pos c.pending 0 !left;
      c.filled <- !left
    end

  let update_substring c s pos len =
    if pos < 0 || len < 0 || pos > String.length s - len then
      invalid_arg "update_substring";
    (* [feed] only reads. *)
    feed c (Bytes.unsafe_of_string s) pos len

  let update_string c s = update_substring c s 0 (String.length s)
  let update_bytes c b = feed c b 0 (Bytes.length b)

  let update_buffer c (b : buf) =
    let size = Bigarray.Array1.dim b in
    let chunk = Bytes.create (min size 4096) in
    let rec go from =
      if from < size then begin
        let n = min (size - from) (Bytes.length chunk) in
        for i = 0 to n - 1 do
          Bytes.set_uint8 chunk i b.{from + i}
        done;
        feed c chunk 0 n;
        go (from + n)
      end
    in
    go 0

  (* Works on a copy, so that the context stays usable. *)
  let finalize c =
    let bits = Int64.shift_left (Int64.of_int c.total) 3 in
    let c = copy c in
    let room = C.block_size - C.length_size in
    let zeros =
      let n = room - c.filled - 1 in
      if n >= 0 then n else n + C.block_size
    in
    let tail = Bytes.make (1 + zeros + C.length_size) '\000' in
    Bytes.set_uint8 tail 0 0x80;
    Bytes.set_int64_be tail (Bytes.length tail - 8) bits;
    feed c tail 0 (Bytes.length tail);
    assert (c.filled = 0);
    C.digest c.state

  let substring s pos len =
    let c = init () in
    update_substring c s pos len;
    finalize c

  let string s = substring s 0 (String.length s)

  let buffer b =
    let c = init () in
    update_buffer c b;
    finalize c

  (* As in Stdlib.Digest: a negative length reads to the end. *)
  let channel ic len =
    let c = init () in
    let chunk = Bytes.create 65536 in
    let rec go left =
      if left <> 0 then begin
        let want =
          if left < 0 then Bytes.length chunk else min left (Bytes.length chunk)
        in
        match input ic chunk 0 want with
        | 0 -> if left > 0 then raise End_of_file
        | n ->
            feed c chunk 0 n;
            go (if left < 0 then left else left - n)
      end
    in
    go len;
    finalize c

  let file name = In_channel.with_open_bin name (fun ic -> channel ic (-1))
  let to_bin t = t
  let equal = String.equal
  let output = output_string

  let to_hex t =
    String.concat ""
      (List.map
         (fun ch -> Printf.sprintf "%02x" (Char.code ch))
         (List.of_seq (String.to_seq t)))
end
