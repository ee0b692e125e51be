# Completion for atoll-img: commands, options of --help's lines, formats, file names.
_atoll_img() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W "$(atoll-img --help | awk '/^Commands:/{on=1;next} /^$/{on=0} on{print $1}')" -- "$word"))
    return
  fi
  case $previous in
    -f | -F | -O) COMPREPLY=($(compgen -W "$(atoll-img --help | sed -n 's/^Supported formats://p')" -- "$word")) ;;
    -t | -T | --cache) COMPREPLY=($(compgen -W "none writeback writethrough directsync unsafe" -- "$word")) ;;
    --output) COMPREPLY=($(compgen -W "human json" -- "$word")) ;;
    *)
      if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$(atoll-img --help | grep "^  $command " | grep -oE -- '--?[A-Za-z][a-z-]*')" -- "$word"))
      else
        compopt -o filenames
        COMPREPLY=($(compgen -f -- "$word"))
      fi ;;
  esac
}
complete -F _atoll_img atoll-img
