(* Solves many roots, each on its own, over one universe of packages that is parsed once.

   usage: opam-oci-root-solver UNIVERSE MORE ROOTS JOBS OUTPUT

   UNIVERSE  opam's CUDF of all packages
   MORE      the same, with what tests or documentation of every package need; "" where no root asks for that
   ROOTS     lines of fields with tabs between them; a constraint is `NAME OPERATOR NUMBER`, with the names and numbers of UNIVERSE:
               group  oldest|newest  [NAME ...]  ;  [CONSTRAINT ...]    what the roots below it have in common, and what they want
               root   NUMBER  NAME  plain|more  [CONSTRAINT ...]        more: with what MORE says of this package
               left   NUMBER                                            asks what goes with what the group wants
   OUTPUT    beginning of the names of files, one per process, with a line per root:
               solved  NUMBER  NAME=NUMBER ...
               none    NUMBER  reason, by what each package needs: its lines with tabs between them
               clash   NUMBER  reason, of the library that solves: its lines with tabs between them; it may be empty
               left    NUMBER  NAME=NUMBER ...
               late    NUMBER  SECONDS      no answer was found in this time

   Every answer is what opam's builtin-0install gives, as the library that does the work is the same. What can be in no answer is
   left out before, which makes the work small, and mostly says why there is no answer. *)

(* A library of the parser's has another module of this name. *)
module Option = Stdlib.Option

module Names = Hashtbl.Make (struct
  type t = string

  let equal = String.equal
  let hash = Hashtbl.hash
end)

let fail text =
  prerr_endline ("the solver of roots: " ^ text);
  exit 1

let all_of table key = Option.value ~default:[] (Names.find_opt table key)
let push table key value = Names.replace table key (value :: all_of table key)

(* -- reading -- *)

type universe = {
  packages : Cudf.package array;
  names : string Names.t; (* CUDF's -> opam's *)
  versions : (string * int, string) Hashtbl.t; (* opam's version *)
  numbers : (string * string, int) Hashtbl.t; (* of CUDF's name and opam's version *)
}

let text_of (p : Cudf.package) property =
  match List.assoc_opt property p.pkg_extra with Some (`String text) -> text | _ -> ""

(* Of the properties only the one that counts is kept: they are most of the memory. *)
let lean (p : Cudf.package) =
  let avoided = function "avoid-version", (`Nat 1 | `Int 1) -> true | _ -> false in
  { p with pkg_extra = (if List.exists avoided p.pkg_extra then [ ("avoid-version", `Int 1) ] else []) }

let read_universe path =
  let packages =
    match Cudf_parser.parse_from_file path with
    | _, packages, _ -> packages
    | exception Cudf_parser.Parse_error (text, _) -> fail ("opam's universe is not understood: " ^ text)
  in
  let names = Names.create 8192 and versions = Hashtbl.create 32768 and numbers = Hashtbl.create 32768 in
  let cudf_names = Names.create 8192 in
  let note name number version =
    Hashtbl.replace versions (name, number) version;
    Hashtbl.replace numbers (name, version) number
  in
  let note_package (p : Cudf.package) =
    let own = text_of p "opam-name" in
    Names.replace names p.package own;
    Names.replace cudf_names own p.package;
    note p.package p.version (text_of p "opam-version")
  in
  List.iter note_package packages;
  (* Versions that formulas name and no repository has stand in comments: #v2v:NAME:NUMBER=VERSION *)
  let note_comment line =
    match String.split_on_char ':' line with
    | "#v2v" :: name :: (_ :: _ as rest) -> (
        let rest = String.concat ":" rest in
        match String.index_opt rest '=' with
        | Some at ->
            let number = int_of_string (String.sub rest 0 at) in
            let version = String.sub rest (at + 1) (String.length rest - at - 1) in
            note (Option.value ~default:name (Names.find_opt cudf_names name)) number version
        | None -> ())
    | _ -> ()
  in
  In_channel.with_open_bin path (fun input ->
      let rec go () =
        match In_channel.input_line input with
        | Some line ->
            if String.starts_with ~prefix:"#v2v:" line then note_comment line;
            go ()
        | None -> ()
      in
      go ());
  { packages = Array.of_list (List.map lean packages); names; versions; numbers }

(* -- what can be in no answer -- *)

type cause =
  | Asked of Cudf_types.vpkg (* what the request says *)
  | Lacks of Cudf_types.vpkg list (* of this dependency nothing is left *)
  | Against of int (* a package that every answer has, and that conflicts with it *)
  | Narrowed of int * Cudf_types.vpkg (* a package that every answer has, and its dependency *)

type state = {
  all : Cudf.package array;
  by_name : int list Names.t;
  causes : cause option array; (* None: it may be in an answer *)
  forced : bool Names.t; (* names that every answer has *)
  empty : string option; (* a name that every answer needs, of which nothing is left *)
}

let accepts version constr = Cudf.version_matches version constr

(* Removes, until nothing changes, packages of which some dependency has no package left, and those that do not go with what
   every answer has: the wanted packages of which one version is left, and what those depend on by necessity. *)
let propagate all wanted common =
  let by_name = Names.create 8192 and users = Names.create 8192 and blockers = Names.create 8192 in
  let once table name i = match Names.find_opt table name with Some (j :: _) when j = i -> () | _ -> push table name i in
  Array.iteri
    (fun i (p : Cudf.package) ->
      push by_name p.package i;
      List.iter (List.iter (fun (name, _) -> once users name i)) p.depends;
      List.iter (fun (name, _) -> if not (String.equal name p.package) then once blockers name i) p.conflicts)
    all;
  let causes = Array.make (Array.length all) None in
  let todo = Queue.create () and waiting = Names.create 64 and forced = Names.create 64 in
  let empty = ref None in
  let kill cause i =
    if causes.(i) = None then (
      causes.(i) <- Some cause;
      let name = all.(i).Cudf.package in
      if not (Names.mem waiting name) then (
        Names.replace waiting name ();
        Queue.add name todo))
  in
  let keep_only cause (name, constr) =
    List.iter (fun i -> if not (accepts all.(i).Cudf.version constr) then kill cause i) (all_of by_name name)
  in
  let meets (name, constr) =
    List.exists (fun i -> causes.(i) = None && accepts all.(i).Cudf.version constr) (all_of by_name name)
  in
  let check i =
    if causes.(i) = None then
      match List.find_opt (fun clause -> not (List.exists meets clause)) all.(i).Cudf.depends with
      | Some clause -> kill (Lacks clause) i
      | None -> ()
  in
  let rec force name =
    if not (Names.mem forced name) then Names.replace forced name false;
    match List.filter (fun i -> causes.(i) = None) (all_of by_name name) with
    | [] -> if !empty = None then empty := Some name
    | [ i ] when not (Names.find forced name) ->
        Names.replace forced name true;
        let p = all.(i) in
        let conflict (other, constr) =
          if not (String.equal other p.package) then
            List.iter (fun j -> if accepts all.(j).Cudf.version constr then kill (Against i) j) (all_of by_name other)
        in
        List.iter conflict p.conflicts;
        let blocks (other, constr) = String.equal other name && accepts p.version constr in
        List.iter (fun j -> if List.exists blocks all.(j).Cudf.conflicts then kill (Against i) j) (all_of blockers name);
        let necessary = function
          | [ ((other, _) as one) ] ->
              keep_only (Narrowed (i, one)) one;
              force other
          | _ -> ()
        in
        List.iter necessary p.depends
    | _ -> ()
  in
  List.iter (fun one -> keep_only (Asked one) one) common;
  List.iter force wanted;
  Array.iteri (fun i _ -> check i) all;
  while not (Queue.is_empty todo) do
    let name = Queue.pop todo in
    Names.remove waiting name;
    List.iter check (all_of users name);
    if Names.mem forced name then force name
  done;
  { all; by_name; causes; forced; empty = !empty }

let left state = List.filter (fun i -> state.causes.(i) = None) (List.init (Array.length state.all) Fun.id)

(* What is left of a group's packages that these names can lead to. `instead`: packages in the place of those of their name. *)
let reachable state names instead =
  let seen = Names.create 1024 and found = ref [] in
  let rec visit name =
    if not (Names.mem seen name) then (
      Names.replace seen name ();
      let known = List.filter_map (fun i -> if state.causes.(i) = None then Some state.all.(i) else None) in
      let candidates =
        match Names.find_opt instead name with Some packages -> packages | None -> known (all_of state.by_name name)
      in
      let follow (p : Cudf.package) =
        found := p :: !found;
        List.iter (List.iter (fun (other, _) -> visit other)) p.depends
      in
      List.iter follow candidates)
  in
  List.iter visit names;
  Array.of_list !found

(* -- reasons -- *)

let relation = function `Eq -> "=" | `Neq -> "!=" | `Geq -> ">=" | `Gt -> ">" | `Leq -> "<=" | `Lt -> "<"
let deepest = 6
let most_kinds = 3
let most_lines = 40

(* opam's name of one that only formulas have: CUDF's has %5f for what CUDF knows no character of. *)
let decoded name =
  let rec go = function
    | [] -> []
    | part :: rest -> (
        match int_of_string_opt ("0x" ^ String.sub part 0 2) with
        | Some code -> (String.make 1 (Char.chr code) ^ String.sub part 2 (String.length part - 2)) :: go rest
        | None | exception Invalid_argument _ -> ("%" ^ part) :: go rest)
  in
  match String.split_on_char '%' name with first :: rest -> String.concat "" (first :: go rest) | [] -> name

let opam_name universe name =
  match Names.find_opt universe.names name with Some own -> own | None -> decoded name

let opam_version universe name number =
  let version name = Hashtbl.find_opt universe.versions (name, number) in
  match version name with
  | Some text -> text
  | None -> Option.value ~default:(Printf.sprintf "(no. %d)" number) (version (decoded name))

let title universe (p : Cudf.package) = opam_name universe p.package ^ "." ^ opam_version universe p.package p.version

let vpkg universe (name, constr) =
  match constr with
  | None -> opam_name universe name
  | Some (op, number) -> Printf.sprintf "%s %s %s" (opam_name universe name) (relation op) (opam_version universe name number)

(* Candidates with the same reason, newest first: "ocaml.4.14.2, 4.14.1 and 7 more". *)
let titles universe = function
  | [] -> ""
  | [ p ] -> title universe p
  | [ p; q ] -> Printf.sprintf "%s and %s" (title universe p) (opam_version universe q.Cudf.package q.version)
  | p :: q :: more ->
      Printf.sprintf "%s, %s and %d more" (title universe p) (opam_version universe q.Cudf.package q.version) (List.length more)

(* Lines that say why nothing is left of a package within bounds, following what it needs. `states`: what was made of one another. *)
let explain universe states name bounds =
  let lines = ref [] and told = Names.create 16 in
  let say depth text = lines := (String.make (2 * depth) ' ' ^ text) :: !lines in
  let lost state bounds i =
    let p = state.all.(i) in
    match state.causes.(i) with
    | Some cause when List.for_all (accepts p.Cudf.version) bounds -> Some (p, cause, state)
    | _ -> None
  in
  let candidates name bounds =
    let newest (p, _, _) (q, _, _) = compare q.Cudf.version p.Cudf.version in
    List.sort newest (List.concat_map (fun state -> List.filter_map (lost state bounds) (all_of state.by_name name)) states)
  in
  let reason (_, cause, state) =
    match cause with
    | Asked one -> Printf.sprintf "asked for is %s" (vpkg universe one)
    | Against i -> Printf.sprintf "conflicts with %s, which is needed" (title universe state.all.(i))
    | Narrowed (i, one) -> Printf.sprintf "but %s needs %s" (title universe state.all.(i)) (vpkg universe one)
    | Lacks clause -> "needs " ^ String.concat " | " (List.map (vpkg universe) clause)
  in
  (* Candidates by their reason, in the order of the newest of each. *)
  let kinds found =
    let texts = List.fold_left (fun seen one -> if List.mem (reason one) seen then seen else reason one :: seen) [] found in
    List.rev_map (fun text -> (text, List.filter (fun one -> String.equal (reason one) text) found)) texts
  in
  let rec of_name depth (name, bounds) =
    match candidates name bounds with
    | [] ->
        let asked = List.map (fun constr -> vpkg universe (name, constr)) bounds in
        say depth ("no version is available of " ^ String.concat " and " (if asked = [] then [ opam_name universe name ] else asked))
    | found ->
        let all = kinds found in
        List.iteri (fun n kind -> if n < most_kinds then of_kind depth kind) all;
        let rest = List.concat_map snd (List.filteri (fun n _ -> n >= most_kinds) all) in
        if rest <> [] then say depth (Printf.sprintf "and other reasons for %s" (titles universe (List.map (fun (p, _, _) -> p) rest)))
  and of_kind depth (text, found) =
    let line = Printf.sprintf "%s: %s" (titles universe (List.map (fun (p, _, _) -> p) found)) text in
    let is_known = Names.mem told line in
    Names.replace told line ();
    match found with
    | (_, Lacks clause, _) :: _ when is_known -> ignore clause; say depth (line ^ " (see above)")
    | (_, Lacks clause, _) :: _ ->
        say depth line;
        if depth < deepest then List.iter (fun (name, constr) -> of_name (depth + 1) (name, [ constr ])) clause
    | _ -> say depth line
  in
  of_name 0 (name, bounds);
  let all = List.rev !lines in
  if List.length all <= most_lines then all else List.filteri (fun n _ -> n < most_lines) all @ [ "..." ]

(* -- formulas that are long as CUDF has no other way to say them -- *)

let longest = 64

(* Without what is settled: alternatives of which nothing is left, and what its first alternative always meets. *)
let shortened state (p : Cudf.package) =
  if List.length p.depends <= longest then p
  else
    let meeting (name, constr) =
      List.filter (fun i -> state.causes.(i) = None && accepts state.all.(i).Cudf.version constr) (all_of state.by_name name)
    in
    let alive name = List.filter (fun i -> state.causes.(i) = None) (all_of state.by_name name) in
    let sure ((name, _) as one) = Names.mem state.forced name && List.length (meeting one) = List.length (alive name) in
    let seen = Hashtbl.create 64 in
    let clause alternatives =
      let possible = List.filter (fun one -> meeting one <> []) alternatives in
      let possible = List.fold_left (fun kept one -> if List.mem one kept then kept else one :: kept) [] possible in
      match List.rev possible with
      | first :: _ when sure first -> None
      | possible when Hashtbl.mem seen possible -> None
      | possible ->
          Hashtbl.replace seen possible ();
          Some possible
    in
    { p with depends = List.filter_map clause p.depends }

(* -- solving -- *)

type group = { oldest : bool; wanted : string list; common : Cudf_types.vpkg list; part : state Lazy.t }
type root = { number : string; name : string; more : bool; own : Cudf_types.vpkg list; group : group }
type question = Root of root | Left of string * group

let solve universe oldest constraints wanted =
  let constraints = List.filter_map (fun (name, c) -> Option.map (fun c -> (name, c)) c) constraints in
  let context =
    Opam_0install_cudf.create ~prefer_oldest:oldest ~handle_avoid_version:(not oldest) ~constraints universe
  in
  Opam_0install_cudf.solve context (List.map (fun name -> (name, `Essential)) wanted)

(* CPU seconds for an answer at first, for one where each choice was tried before, and for the library's own reason. Any of them
   may take for ever, as in opam. *)
let impatience = 2.
let patience = 10.

exception Too_long

let in_time seconds work value =
  Sys.set_signal Sys.sigvtalrm (Sys.Signal_handle (fun _ -> raise Too_long));
  let clock seconds = ignore (Unix.setitimer Unix.ITIMER_VIRTUAL { it_interval = 0.; it_value = seconds }) in
  clock seconds;
  match work value with
  | result ->
      clock 0.;
      Some result
  | exception Too_long -> None

let pairs chosen = List.map (fun (name, number) -> Printf.sprintf "%s=%d" name number) chosen
let print out kind number rest = Printf.fprintf out "%s\t%s\t%s\n" kind number (String.concat "\t" rest)

let answer_left out number group =
  let part = Lazy.force group.part in
  let key i = (part.all.(i).Cudf.package, part.all.(i).Cudf.version) in
  print out "left" number (if part.empty = None then pairs (List.map key (left part)) else [])

(* What is impossible of the versions that every answer has one of: for each, why. *)
let tried state wanted constraints =
  let packages = Array.of_list (List.map (fun i -> state.all.(i)) (left state)) in
  let of_version (p : Cudf.package) =
    let one = propagate packages wanted ((p.package, Some (`Eq, p.version)) :: constraints) in
    Option.map (fun name -> (p, one, name)) one.empty
  in
  let of_name name _ found =
    match List.filter (fun i -> state.causes.(i) = None) (all_of state.by_name name) with
    | [] | [ _ ] -> found
    | several -> List.filter_map (fun i -> of_version state.all.(i)) several @ found
  in
  Names.fold of_name state.forced []

let answer_root universe more out root =
  let wanted = root.group.wanted @ [ root.name ] in
  let constraints = root.own @ root.group.common in
  let say kind rest = print out kind root.number rest in
  let part = Lazy.force root.group.part in
  let instead = Names.create 1 in
  if root.more then Names.replace instead root.name (more root.name);
  let bounds name = List.filter_map (fun (other, constr) -> if other = name then Some constr else None) constraints in
  let attempt seconds state =
    let kept = Cudf.load_universe (List.map (fun i -> shortened state state.all.(i)) (left state)) in
    match in_time seconds (solve kept root.group.oldest constraints) wanted with
    | Some (Ok selections) -> Some (fun () -> say "solved" (pairs (Opam_0install_cudf.packages_of_result selections)))
    | Some (Error problem) ->
        let reason = Option.value ~default:"" (in_time patience Opam_0install_cudf.diagnostics problem) in
        Some (fun () -> say "clash" (String.split_on_char '\n' reason))
    | None -> None
  in
  let state = propagate (reachable part wanted instead) wanted constraints in
  let again () =
    let impossible = tried state wanted constraints in
    let others = List.map (fun ((p : Cudf.package), _, _) -> (p.package, Some (`Neq, p.version))) impossible in
    let rest = propagate state.all wanted (others @ constraints) in
    match rest.empty with
    | None -> Option.value ~default:(fun () -> say "late" [ Printf.sprintf "%.0f" patience ]) (attempt patience rest) ()
    | Some _ ->
        let newest (p, _, _) (q, _, _) = compare q.Cudf.version p.Cudf.version in
        let line text = "  " ^ text in
        let told (p, one, name) =
          Printf.sprintf "with %s:" (title universe p) :: List.map line (explain universe [ one ] name (bounds name))
        in
        say "none" (List.concat_map told (List.filteri (fun n _ -> n < most_kinds) (List.sort newest impossible)))
  in
  match state.empty with
  | Some name -> say "none" (explain universe [ state; part ] name (bounds name))
  | None -> Option.value ~default:again (attempt impatience state) ()

let answer universe more out = function
  | Root root -> answer_root universe more out root
  | Left (number, group) -> answer_left out number group

(* -- what tests and documentation need -- *)

let beyond = max_int

(* A constraint of another universe, where the same versions have other numbers. `known`: (number here, number there), rising. *)
let translated known constr =
  let first holds = List.find_opt (fun (_, there) -> holds there) known in
  let from holds = match first holds with Some (here, _) -> here | None -> beyond in
  match constr with
  | None -> None
  | Some (`Geq, v) -> Some (`Geq, from (fun there -> there >= v))
  | Some (`Gt, v) -> Some (`Geq, from (fun there -> there > v))
  | Some (`Lt, v) -> Some (`Lt, from (fun there -> there >= v))
  | Some (`Leq, v) -> Some (`Lt, from (fun there -> there > v))
  | Some (((`Eq | `Neq) as op), v) -> Some (op, from (fun there -> there = v))

(* The packages of a name as `other` describes them, in the numbers of `universe`. *)
let described_by universe other =
  let here = Names.create 8192 and there = Names.create 8192 in
  Array.iter (fun (p : Cudf.package) -> push here p.package p.version) universe.packages;
  Array.iter (fun (p : Cudf.package) -> push there p.package p) other.packages;
  let number_there name number =
    Option.map (fun there -> (number, there)) (Hashtbl.find_opt other.numbers (name, opam_version universe name number))
  in
  let known name = List.filter_map (number_there name) (List.sort compare (all_of here name)) in
  let vpkg (name, constr) = (name, translated (known name) constr) in
  let here (p : Cudf.package) =
    let version = Option.value ~default:"" (Hashtbl.find_opt other.versions (p.package, p.version)) in
    let renumbered version =
      { p with version; depends = List.map (List.map vpkg) p.depends; conflicts = List.map vpkg p.conflicts }
    in
    Option.map renumbered (Hashtbl.find_opt universe.numbers (p.package, version))
  in
  fun name -> List.filter_map here (all_of there name)

(* -- processes -- *)

(* Numbers of roots come through a pipe, from which each process takes the next when it is ready. *)
let width = 8

let rec take input =
  let buffer = Bytes.create width in
  match Unix.read input buffer 0 width with
  | 0 -> None
  | n when n = width -> Some (int_of_string (String.trim (Bytes.to_string buffer)))
  | _ -> fail "a torn message"
  | exception Unix.Unix_error (Unix.EINTR, _, _) -> take input

let work answer roots input path =
  let out = open_out_bin path in
  let rec go () =
    match take input with
    | Some i ->
        answer out roots.(i);
        flush out;
        go ()
    | None -> close_out out
  in
  go ()

let operator = function
  | "=" -> `Eq
  | "!=" -> `Neq
  | ">=" -> `Geq
  | ">" -> `Gt
  | "<=" -> `Leq
  | "<" -> `Lt
  | other -> fail ("no operator: " ^ other)

let constraint_of text =
  match String.split_on_char ' ' text with
  | [ name; relation; number ] -> (name, Some (operator relation, int_of_string number))
  | _ -> fail ("no constraint: " ^ text)

let rec split_at_semicolon before = function
  | ";" :: after -> (List.rev before, after)
  | one :: after -> split_at_semicolon (one :: before) after
  | [] -> (List.rev before, [])

let read_roots path packages =
  let group = ref None and roots = ref [] in
  let line text =
    match (String.split_on_char '\t' text, !group) with
    | "group" :: order :: rest, _ ->
        let wanted, common = split_at_semicolon [] rest in
        let common = List.map constraint_of common in
        group := Some { oldest = order = "oldest"; wanted; common; part = lazy (propagate packages wanted common) }
    | "root" :: number :: name :: kind :: own, Some group ->
        roots := Root { number; name; more = kind = "more"; own = List.map constraint_of own; group } :: !roots
    | [ "left"; number ], Some group -> roots := Left (number, group) :: !roots
    | _ -> fail ("not understood: " ^ text)
  in
  In_channel.with_open_bin path (fun input ->
      let rec go () =
        match In_channel.input_line input with
        | Some text ->
            line text;
            go ()
        | None -> ()
      in
      go ());
  Array.of_list (List.rev !roots)

let run answer roots jobs output =
  let input, numbers = Unix.pipe ~cloexec:true () in
  let child i =
    match Unix.fork () with
    | 0 ->
        Unix.close numbers;
        let code =
          try
            work answer roots input (Printf.sprintf "%s.%d" output i);
            0
          with error ->
            prerr_endline (Printexc.to_string error);
            1
        in
        Unix._exit code
    | pid -> pid
  in
  let children = List.init (max 1 jobs) child in
  Unix.close input;
  Sys.set_signal Sys.sigpipe Sys.Signal_ignore;
  (try Array.iteri (fun i _ -> ignore (Unix.write_substring numbers (Printf.sprintf "%*d" width i) 0 width)) roots
   with Unix.Unix_error (Unix.EPIPE, _, _) -> ());
  Unix.close numbers;
  let failed = List.filter (fun pid -> snd (Unix.waitpid [] pid) <> Unix.WEXITED 0) children in
  if failed <> [] then fail "a process of it failed"

let () =
  match Sys.argv with
  | [| _; universe; more; roots; jobs; output |] ->
      let universe = read_universe universe in
      let more = if more = "" then fun _ -> [] else described_by universe (read_universe more) in
      let roots = read_roots roots universe.packages in
      (* Before the processes part: they share this memory. *)
      let group_of = function Root root -> root.group | Left (_, group) -> group in
      Array.iter (fun question -> ignore (Lazy.force (group_of question).part)) roots;
      Gc.compact ();
      run (answer universe more) roots (int_of_string jobs) output
  | _ -> fail "usage: opam-oci-root-solver UNIVERSE MORE ROOTS JOBS OUTPUT"
