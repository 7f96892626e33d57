<%
# The frame of every page; a page stands in it with  % rebase("layout", title="…").
#   title   the page's title          base    the page (HTML)
#   root    from here to the index's root, such as "../../"; empty on the home page
#   asset   asset("style.css") is the link to a file beside the templates
#   query   what was searched for
#   index   the index's name, "/" for the one at the root; index_title, index_description: --title and --description
#   logo    the picture beside the title
#   user    who signed in, if anybody did; admin: whether they may administer this index; csrf: what their forms bring
#   sign_in from the index's root to where people sign in; empty where nobody can
#   up      from the index's root to the server's, if it is another, where all indexes are listed
%>
<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{{title}}</title>
  <link rel="icon" href="{{asset("icon.svg")}}" type="image/svg+xml">
  <link rel="stylesheet" href="{{asset("style.css")}}">
  <script src="{{asset("copy.js")}}" defer></script>
</head>
<body>
<a class="skip" href="#main">Skip to the page</a>
<header>
  <div class="bar">
    <a class="home" href="{{root or "./"}}"><img src="{{logo}}" alt="" height="28"{{!' width="28"' if logo == asset("icon.svg") else ""}}>{{index_title}}</a>
    <form action="{{root}}search" role="search">
      <input type="search" name="q" value="{{query}}" placeholder="Search projects" aria-label="Search projects" maxlength="200" autocomplete="off" autocapitalize="none" spellcheck="false">
      <button>Search</button>
    </form>
% if user:
    <nav class="who" aria-label="{{user}}">
%   if admin:
      <a href="{{root}}-/admin/">Administration</a>
%   end
      <a href="{{root}}-/tokens" aria-label="{{user}}, your tokens"><bdi>{{user}}</bdi></a>
      <form method="post" action="{{root}}-/sign-out">
        <input type="hidden" name="csrf" value="{{csrf}}">
        <button class="plain">Sign out</button>
      </form>
    </nav>
% elif sign_in:
    <nav class="who" aria-label="Sign in"><a href="{{root}}{{sign_in}}" rel="nofollow">Sign in</a></nav>
% end
  </div>
</header>
<main id="main" tabindex="-1">
{{!base}}
</main>
<footer>
  <div class="bar">
    <a href="{{root}}search">All projects</a>
    <a href="{{root}}simple/">Simple index</a>
    <a href="{{root}}packages/">All files</a>
% if up:
    <a href="{{root}}{{up}}">All indexes</a>
% end
  </div>
</footer>
<div class="status" role="status"></div>
</body>
</html>
