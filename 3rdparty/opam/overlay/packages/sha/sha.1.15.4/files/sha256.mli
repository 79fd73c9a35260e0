(** SHA-256 (FIPS 180-4); digests of 32 bytes. *)

type ctx
(** A message that is being hashed. *)

type t
(** A digest. *)

type buf =
  (int, Bigarray.int8_unsigned_elt, Bigarray.c_layout) Bigarray.Array1.t

val init : unit -> ctx
val copy : ctx -> ctx

val update_string : ctx -> string -> unit

val update_substring : ctx -> string -> int -> int -> unit
(** [update_substring ctx s pos len]. Raises [Invalid_argument] out of bounds. *)

val update_bytes : ctx -> bytes -> unit
val update_buffer : ctx -> buf -> unit

val finalize : ctx -> t
(** The digest of all that went in so far. *)

val string : string -> t
val substring : string -> int -> int -> t
val buffer : buf -> t

val channel : in_channel -> int -> t
(** [channel ic n] reads [n] bytes, or to the end if [n] is negative. Raises
    [End_of_file] if there are fewer than [n]. *)

val file : string -> t
val output : out_channel -> t -> unit
val equal : t -> t -> bool

val to_bin : t -> string
(** The 32 bytes themselves. *)

val to_hex : t -> string
(** In lower-case hexadecimal. *)
