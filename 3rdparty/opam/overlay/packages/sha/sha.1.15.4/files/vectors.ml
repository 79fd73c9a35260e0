(* The example messages of FIPS 180-4 (one block, two blocks, a million letters) and
   the empty one, for each function; then, for lengths on both sides of every
   block border, that all ways to feed a message agree with the digests of another
   implementation, folded into one digest of digests. *)

module type Hash = sig
  type ctx
  type t

  type buf =
    (int, Bigarray.int8_unsigned_elt, Bigarray.c_layout) Bigarray.Array1.t

  val init : unit -> ctx
  val copy : ctx -> ctx
  val update_string : ctx -> string -> unit
  val update_substring : ctx -> string -> int -> int -> unit
  val update_bytes : ctx -> bytes -> unit
  val update_buffer : ctx -> buf -> unit
  val finalize : ctx -> t
  val string : string -> t
  val file : string -> t
  val equal : t -> t -> bool
  val to_bin : t -> string
  val to_hex : t -> string
end

let failures = ref 0

let check name expected got =
  if expected <> got then begin
    incr failures;
    Printf.printf "%s: expected %s, got %s\n" name expected got
  end

let two_blocks =
  "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"

let two_long_blocks =
  "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn\
   hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"

let messages =
  [ ""; "abc"; two_blocks; two_long_blocks; String.make 1_000_000 'a' ]

(* A message in which neighbouring blocks differ. *)
let sample len = String.init len (fun i -> Char.chr ((i * 7 + (i / 256)) land 255))

let all_ways (module H : Hash) name s =
  let len = String.length s in
  let expected = H.string s in
  let same way t =
    if not (H.equal expected t) then
      check (Printf.sprintf "%s, %d bytes, %s" name len way) (H.to_hex expected)
        (H.to_hex t)
  in
  let fed way feed =
    let c = H.init () in
    feed c;
    same way (H.finalize c)
  in
  fed "by bytes of one" (fun c ->
      String.iter (fun ch -> H.update_string c (String.make 1 ch)) s);
  fed "in three parts" (fun c ->
      let a = len / 3 and b = len / 2 in
      H.update_substring c s 0 a;
      H.update_bytes c (Bytes.of_string (String.sub s a (b - a)));
      H.update_substring c s b (len - b));
  fed "from a bigarray" (fun c ->
      let open Bigarray in
      let b = Array1.create int8_unsigned c_layout len in
      String.iteri (fun i ch -> b.{i} <- Char.code ch) s;
      H.update_buffer c b);
  fed "after a copy and a finalize" (fun c ->
      H.update_substring c s 0 (len / 2);
      let other = H.copy c in
      H.update_string other "something else";
      ignore (H.finalize other);
      ignore (H.finalize c);
      H.update_substring c s (len / 2) (len - (len / 2)))

let test name (module H : Hash) ~examples ~folded =
  List.iter2
    (fun message expected ->
      let hash = H.string message in
      check (Printf.sprintf "%s, %d bytes" name (String.length message)) expected
        (H.to_hex hash))
    messages examples;
  let fold = H.init () in
  for len = 0 to 300 do
    let s = sample len in
    all_ways (module H) name s;
    H.update_string fold (H.to_bin (H.string s))
  done;
  check (name ^ ", lengths 0 to 300") folded (H.to_hex (H.finalize fold));
  let path = Filename.temp_file "sha" ".bin" in
  let content = sample 200_000 in
  Out_channel.with_open_bin path (fun oc -> output_string oc content);
  check (name ^ ", a file") (H.to_hex (H.string content)) (H.to_hex (H.file path));
  Sys.remove path;
  (match H.update_substring (H.init ()) "abc" 2 2 with
  | () -> check name "Invalid_argument" "nothing raised"
  | exception Invalid_argument _ -> ())

let () =
  test "Sha1"
    (module Sha1)
    ~examples:
      [
        "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        "a9993e364706816aba3e25717850c26c9cd0d89d";
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1";
        "a49b2446a02c645bf419f995b67091253a04a259";
        "34aa973cd4c4daa4f61eeb2bdbad27316534016f";
      ]
    ~folded:
      "80e21e5b5df4f430106e9b56710edd8ca7836320";
  test "Sha256"
    (module Sha256)
    ~examples:
      [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1";
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
      ]
    ~folded:
      "37c4dea4792819683234a2a82a4a9e4279e80e78e8fdaa3d7833e5a95e9aac55";
  test "Sha512"
    (module Sha512)
    ~examples:
      [
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
         47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        "204a8fc6dda82f0a0ced7beb8e08a41657c16ef468b228a8279be331a703c335\
         96fd15c13b1b07f9aa1d3bea57789ca031ad85c7a71dd70354ec631238ca3445";
        "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018\
         501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909";
        "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb\
         de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b";
      ]
    ~folded:
      "c4c0b5b41f16c657599155b4f6d99ed195e9831d5496952dacb21c87205a529f\
       c3d35fdde37acbd8e1acf84d90e634e8dfe62081cc44aff6911f34099abe94aa";
  if !failures > 0 then exit 1;
  print_endline "Sha1, Sha256, Sha512: all as in FIPS 180-4"
