% rebase("layout", title="About our index")
<h1>About our index</h1>
<p>Ask <a href="mailto:{{contact}}">{{contact}}</a>. There is <a href="{{root}}search">a list of all projects</a>.</p>
<p><img src="{{asset("logo.svg")}}" alt="Our logo" width="16" height="16"></p>
